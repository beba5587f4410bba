package local

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tiphys/tiphys/datafolder"
)

// A host view shows this machine's files, and among them the credentials of everybody who uses it. On a server, whose steps are others' work, they are
// masked, and so is what other servers keep.

// credentials are where programs keep what lets them in elsewhere, in a user's home: folders and files.
func credentials() []string {
	return []string{
		".ssh", ".gnupg", ".password-store", ".netrc", ".git-credentials", ".vault-token", ".aws", ".azure", ".kube", ".docker", ".dockercfg", ".boto", ".s3cfg",
		".npmrc", ".yarnrc", ".yarnrc.yml", ".pypirc", ".pgpass", ".my.cnf", ".mylogin.cnf", ".terraformrc", ".terraform.d", ".sops", ".oci",
		".m2/settings.xml", ".m2/settings-security.xml", ".gradle/gradle.properties", ".cargo/credentials", ".cargo/credentials.toml", ".gem/credentials",
		".bundle/config", ".composer/auth.json", ".nuget/NuGet/NuGet.Config",
		".config/tiphys", ".config/git/credentials", ".config/gh", ".config/glab-cli", ".config/hub", ".config/tea", ".config/gcloud", ".config/containers", ".config/sops", ".config/age",
		".config/rclone", ".config/composer/auth.json", ".config/op", ".config/doctl", ".config/hcloud", ".config/helm", ".config/argocd", ".config/pip",
		".local/share/keyrings", ".local/share/containers/auth.json",
		".bash_history", ".zsh_history", ".python_history", ".psql_history", ".mysql_history", ".lesshst",
	}
}

// machineCredentials are those of the machine itself.
func machineCredentials() []string {
	return []string{"/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/ssl/private", "/etc/letsencrypt", "/etc/kubernetes", "/etc/rancher", "/var/lib/kubelet", "/var/lib/rancher"}
}

// hide lists what the views of an attempt do not show; what is not there is left out.
func (a *attempt) hide() []string {
	if !a.host || !a.e.o.Apart {
		return a.e.hidden
	}
	var found []string
	add := func(path string) {
		if _, err := os.Lstat(path); err == nil {
			found = append(found, path)
		}
	}
	for _, home := range homes() {
		for _, name := range credentials() {
			add(filepath.Join(home, name))
		}
	}
	for _, path := range machineCredentials() {
		add(path)
	}
	keys, _ := filepath.Glob("/etc/ssh/*_key") // the pattern is a good one
	found = append(found, keys...)
	for _, path := range datafolder.Known() {
		add(path)
	}
	return outermost(append(slices.Clone(a.e.hidden), found...))
}

// apartByNetwork says that host views have a network of their own: whoever switches the pods' network off has them on the machine's.
func (e *Executor) apartByNetwork() bool { return e.o.Apart && !e.o.Network.Disabled }

// homes are the homes of this machine's users: those that it knows, and those that stand where homes do. Users of a directory service are only among
// the latter.
func homes() []string {
	list := []string{"/root"}
	if own, err := os.UserHomeDir(); err == nil {
		list = append(list, own)
	}
	users, _ := os.ReadFile("/etc/passwd") // without it there are the others
	for line := range strings.Lines(string(users)) {
		if fields := strings.Split(strings.TrimSpace(line), ":"); len(fields) >= 6 && strings.Count(fields[5], "/") > 1 {
			list = append(list, filepath.Clean(fields[5]))
		}
	}
	entries, _ := os.ReadDir("/home")
	for _, e := range entries {
		list = append(list, filepath.Join("/home", e.Name()))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
