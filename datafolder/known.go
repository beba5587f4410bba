package datafolder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// register is where this machine's servers note their data folders, which no step of another one is to see.
const register = "/var/lib/tiphys/folders"

// mostKnown bounds how many are read.
const mostKnown = 1000

// Register notes a data folder for the other servers of this machine, and forgets those that are gone. Who may not write there notes nothing: the
// error says why.
func Register(folder string) error {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return fmt.Errorf("note the data folder: %w", err)
	}
	if err := os.MkdirAll(register, 0o700); err != nil {
		return fmt.Errorf("note the data folder: %w", err)
	}
	for name, there := range noted() {
		if _, err := os.Stat(there); os.IsNotExist(err) {
			_ = os.Remove(filepath.Join(register, name)) // another server may have done so
		}
	}
	sum := sha256.Sum256([]byte(folder))
	if err := os.WriteFile(filepath.Join(register, hex.EncodeToString(sum[:16])), []byte(folder+"\n"), 0o600); err != nil {
		return fmt.Errorf("note the data folder: %w", err)
	}
	return nil
}

// Known are the data folders of this machine's servers, running or not.
func Known() []string {
	var list []string
	for _, folder := range noted() {
		list = append(list, folder)
	}
	return list
}

// noted gives the folders by the names of the files that they are noted in.
func noted() map[string]string {
	found := map[string]string{}
	entries, _ := os.ReadDir(register) // where there is none nobody has noted anything
	for _, e := range entries[:min(len(entries), mostKnown)] {
		text, err := os.ReadFile(filepath.Join(register, e.Name()))
		if folder := strings.TrimSuffix(string(text), "\n"); err == nil && filepath.IsAbs(folder) && folder != "/" {
			found[e.Name()] = filepath.Clean(folder)
		}
	}
	return found
}
