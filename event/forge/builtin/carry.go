package builtin

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tiphys/tiphys/ledger"
	"github.com/tiphys/tiphys/repo/git"
)

// carryTimeout bounds what is done with one repository when it is carried elsewhere.
const carryTimeout = 2 * time.Hour

// Carrier takes repositories out of a remote's folder, beside a server that may be running, and puts them into another one. What is in a
// repository at some moment is what a ledger of that moment says: branches, tags and notes are those of its rows, and the objects behind
// them are in the folder, since nothing is ever pruned there. So the refs of the folder, which a push may move meanwhile, are not asked.
type Carrier struct{ r *Remote }

// NewCarrier carries repositories of, or to, a folder. The ledger is the one that says what there is.
func NewCarrier(dir string, l ledger.Ledger) *Carrier {
	return &Carrier{r: &Remote{opt: Options{Dir: dir}, ledger: l, git: newGit("", os.DevNull, 1<<62)}}
}

// Names lists the repositories that exist by the ledger.
func (c *Carrier) Names(ctx context.Context) ([]string, error) {
	all, err := c.r.Repositories(ctx)
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names, err
}

// Pack writes every object of a repository as one pack, those too that no ref leads to: an event may be replayed to such a commit. Nothing
// is written for a repository without objects, or one that a crash kept from being made.
func (c *Carrier) Pack(ctx context.Context, name string, w io.Writer) error {
	dir := c.r.dir(name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, carryTimeout, fmt.Errorf("it took longer than %s", carryTimeout))
	defer cancel()
	list := c.r.git.Command(ctx, git.Call{Dir: dir, Args: []string{"cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"}})
	stderr := git.NewBuffer(4 << 10)
	list.Stderr = stderr
	out, err := list.StdoutPipe()
	if err == nil {
		err = list.Start()
	}
	if err != nil {
		return fmt.Errorf("pack repository %s: %w", name, err)
	}
	objects := bufio.NewReader(out)
	if _, err := objects.Peek(1); err == nil {
		err = c.git(ctx, dir, objects, w, "pack-objects", "--quiet", "--stdout", "--threads=1", "--delta-base-offset")
		if err != nil {
			cancel() // nobody reads what the list goes on to tell
			return errors.Join(fmt.Errorf("pack repository %s: %w", name, err), ignore(list.Wait()))
		}
	}
	if err := git.Describe(ctx, "cat-file", list.Wait(), stderr.String()); err != nil {
		return fmt.Errorf("pack repository %s: %w", name, err)
	}
	return nil
}

// ignore is for the end of a process that was ended.
func ignore(error) error { return nil }

// git runs a command between two streams.
func (c *Carrier) git(ctx context.Context, dir string, in io.Reader, out io.Writer, args ...string) error {
	cmd := c.r.git.Command(ctx, git.Call{Dir: dir, Args: args})
	stderr := git.NewBuffer(4 << 10)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, stderr
	return git.Describe(ctx, args[0], cmd.Run(), stderr.String())
}

// Heads gives the heads of merge requests that the folder keeps, one "SHA REF" a line.
func (c *Carrier) Heads(ctx context.Context, name string) ([]byte, error) {
	dir := c.r.dir(name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var out bytes.Buffer
	if err := c.git(ctx, dir, nil, &out, "for-each-ref", "--format=%(objectname) %(refname)", mrRefs); err != nil {
		return nil, fmt.Errorf("read heads of merge requests of %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Unpack makes a repository with the objects of a pack. The pack is checked object by object, and nothing of it is executed: a repository
// has no configuration or hooks but those that this program writes.
func (c *Carrier) Unpack(ctx context.Context, name string, pack io.Reader) error {
	if err := CheckName(name); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, carryTimeout, fmt.Errorf("it took longer than %s", carryTimeout))
	defer cancel()
	if err := c.r.initBare(ctx, c.r.dir(name), "main"); err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	objects := bufio.NewReader(pack)
	if _, err := objects.Peek(1); errors.Is(err, io.EOF) {
		return nil
	}
	if err := c.git(ctx, c.r.dir(name), objects, io.Discard, "index-pack", "--stdin", "--threads=1"); err != nil {
		return fmt.Errorf("unpack repository %s: %w", name, err)
	}
	return nil
}

var headLine = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([0-9a-f]{40}) (` + mrRefs + `/([0-9]{1,9})/head)$`)
})

// Point points the refs of a repository where the ledger says, and those of merge requests that it knows where heads says. A ref to an object
// that is not there is an error.
func (c *Carrier) Point(ctx context.Context, name string, heads []byte) error {
	repo, err := c.r.Repository(ctx, name)
	if err != nil {
		return err
	}
	refs, err := c.r.knownRefs(ctx, name)
	if err != nil {
		return err
	}
	if err := c.r.initBare(ctx, c.r.dir(name), repo.DefaultBranch); err != nil {
		return fmt.Errorf("make repository %s: %w", name, err)
	}
	for line := range strings.Lines(string(heads)) {
		m := headLine().FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			return fmt.Errorf("%q is not the head of a merge request of %s: %w", line, name, ErrName)
		}
		if number, err := strconv.Atoi(m[3]); err == nil && number <= repo.LastMR {
			refs[m[2]] = m[1]
		}
	}
	var in bytes.Buffer
	for ref, sha := range refs {
		if !shaPattern().MatchString(sha) || strings.ContainsAny(ref, " \n\x00") {
			return fmt.Errorf("point %s of %s to %q: %w", ref, name, sha, ErrName)
		}
		if sha != git.Zero {
			fmt.Fprintf(&in, "create %s %s\n", ref, sha)
		}
	}
	if err := c.git(ctx, c.r.dir(name), &in, io.Discard, "update-ref", "--stdin"); err != nil {
		return fmt.Errorf("point the refs of %s: %w", name, err)
	}
	return c.r.setHead(ctx, repo)
}
