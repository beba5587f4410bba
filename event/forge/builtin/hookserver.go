package builtin

import (
	"github.com/tiphys/tiphys/repo/git"

	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tiphys/tiphys/event/forge"
	"github.com/tiphys/tiphys/failure"
	"github.com/tiphys/tiphys/ledger"
)

// livePush is a push whose request this process is serving.
type livePush struct {
	id, token, repo string
	actor           forge.Actor
	administers     bool
}

// acceptPause is how long the server rests after it could not take a hook's connection.
const acceptPause = 100 * time.Millisecond

// maxSocketPath is what fits into sockaddr_un, with a little room.
const maxSocketPath = 100

// installHooks makes the folder that core.hooksPath names. Git never looks into a repository's own hooks.
func installHooks(dir, executable string) (string, error) {
	hooks := filepath.Join(dir, hooksFolder)
	if err := os.MkdirAll(hooks, 0o700); err != nil {
		return "", err
	}
	for _, name := range []string{"pre-receive", "post-receive"} {
		// A new link is put over the old one, because a push of an earlier process may be looking at it.
		path := filepath.Join(hooks, name)
		if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if err := os.Symlink(executable, path+".new"); err != nil {
			return "", err
		}
		if err := os.Rename(path+".new", path); err != nil {
			return "", err
		}
	}
	return hooks, nil
}

// listenForHooks opens the socket. Its path depends only on the folder, so that the hook of a push that
// outlived its server reaches the next one.
func (r *Remote) listenForHooks(ctx context.Context) error {
	r.socket = filepath.Join(r.opt.Dir, hooksFolder, "socket")
	if len(r.socket) > maxSocketPath {
		sum := sha256.Sum256([]byte(r.opt.Dir))
		dir := filepath.Join(os.TempDir(), fmt.Sprintf("tiphys-git-%d-%s", os.Getuid(), hex.EncodeToString(sum[:8])))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			return fmt.Errorf("%s is not a private folder; remove it", dir)
		}
		r.socket = filepath.Join(dir, "socket")
	}
	if err := os.Remove(r.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", r.socket)
	if err != nil {
		return err
	}
	if err := os.Chmod(r.socket, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	r.listener = l
	r.wg.Add(1)
	go r.acceptHooks()
	return nil
}

func (r *Remote) acceptHooks() {
	defer r.wg.Done()
	for {
		conn, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // descriptors are scarce, say: the hook waits in the kernel meanwhile
			r.log.Warn("accept hook; trying again", "error", err)
			<-time.After(acceptPause)
			continue
		}
		r.wg.Add(1)
		go func() {
			defer r.wg.Done()
			defer conn.Close()
			if err := r.serveHook(conn); err != nil {
				r.log.Warn("serve hook", "error", err)
			}
		}()
	}
}

func (r *Remote) serveHook(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(hookTimeout)); err != nil {
		return err
	}
	var req hookRequest
	if err := json.NewDecoder(io.LimitReader(conn, 4*maxHookInput)).Decode(&req); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hookTimeout)
	defer cancel()
	var answer hookAnswer
	var err error
	switch req.Hook {
	case "pre-receive":
		err = r.preReceive(ctx, req)
	case "post-receive":
		answer, err = r.postReceive(ctx, req)
	default:
		err = fmt.Errorf("unknown hook %q", req.Hook)
	}
	if err != nil {
		text, whole := failure.ForStrangers(err)
		if !whole {
			r.log.Error("git hook", "hook", req.Hook, "repository", req.Repo, "push", req.Push, "error", err)
			text += "; its log has the reason at push " + req.Push
		}
		answer = hookAnswer{Refuse: true, Messages: []string{"tiphys: " + text}}
	}
	return json.NewEncoder(conn).Encode(answer)
}

// liveOf finds the push that a hook belongs to and checks its token; nil if this process does not serve it.
func (r *Remote) liveOf(req hookRequest) *livePush {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.live[req.Push]
	if p == nil || p.repo != req.Repo || subtle.ConstantTimeCompare([]byte(p.token), []byte(req.Token)) != 1 {
		return nil
	}
	return p
}

// parseChanges reads the lines that git gives to pre-receive and post-receive.
func parseChanges(s string) ([]Change, error) {
	var all []Change
	for line := range strings.Lines(s) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(parts) != 3 || !shaPattern().MatchString(parts[0]) || !shaPattern().MatchString(parts[1]) {
			return nil, failure.Invalidf("line %q is not a ref change", cut(line, 200))
		}
		all = append(all, Change{Old: parts[0], New: parts[1], Ref: parts[2]})
	}
	return all, nil
}

// preReceive records what a push is about to change. An error refuses the push.
func (r *Remote) preReceive(ctx context.Context, req hookRequest) error {
	live := r.liveOf(req)
	if live == nil {
		return failure.New(failure.Conflict, "the server was restarted; push again")
	}
	changes, err := parseChanges(req.Changes)
	if err != nil {
		return err
	}
	repo, err := r.Repository(ctx, live.repo)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := checkRef(c.Ref); err != nil {
			return err
		}
		if c.New == git.Zero && c.Ref == "refs/heads/"+repo.DefaultBranch {
			return fmt.Errorf("%s is the default branch and cannot be deleted; choose another default branch first: %w", repo.DefaultBranch, ErrRefused)
		}
	}
	if live.actor.Name == "" {
		live.actor = r.quarantinedClaim(ctx, live.repo, req, changes)
	}
	for _, c := range changes {
		if err := r.mayChange(ctx, repo, live, req, c); err != nil {
			return err
		}
	}
	p := Push{ID: live.id, Repo: live.repo, Actor: live.actor.Name, Verified: live.actor.Verified, Changes: changes, Options: req.Options}
	if err := r.intend(ctx, live.actor, &p, 0); err != nil {
		return err
	}
	r.opt.Fault("ref-update")
	return nil
}

// intend records a push or merge before it happens, and puts the entry's sequence into p.
func (r *Remote) intend(ctx context.Context, actor forge.Actor, p *Push, from int64) error {
	var intended ledger.Ref
	err := r.ledger.Write(ctx, ledger.On("repo/"+p.Repo), func(tx ledger.Tx) (err error) {
		intended, err = tx.Append(ledger.Draft{
			Actor: actor.String(), Kind: kindPushIntended, Subject: pushSubject(*p), Cause: ledger.At(from), Body: p, Unique: "push/" + p.ID,
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("record the push: %w", err)
	}
	p.Seq = intended.Seq()
	return nil
}

func pushSubject(p Push) string { return "push/" + p.Repo + "/" + p.ID }

// quarantinedClaim reads the committer of what is being pushed, while only the hook's git sees its objects.
func (r *Remote) quarantinedClaim(ctx context.Context, repo string, req hookRequest, changes []Change) forge.Actor {
	env := r.quarantined(repo, req)
	for _, c := range changes {
		if c.New == git.Zero {
			continue
		}
		list, err := r.commitsWith(ctx, repo, env, 1, c.New)
		if err == nil && len(list) == 1 {
			return claimed(list[0].Committer)
		}
	}
	return forge.Actor{}
}

// postReceive confirms a push. Nothing that the hook says is trusted beyond what the refs show, so that the
// hook of a push that outlived its server is welcome too.
func (r *Remote) postReceive(ctx context.Context, req hookRequest) (hookAnswer, error) {
	if err := CheckName(req.Repo); err != nil {
		return hookAnswer{}, err
	}
	live := r.liveOf(req)
	changes, err := parseChanges(req.Changes)
	if err != nil {
		return hookAnswer{}, err
	}
	r.opt.Fault("before-confirm")
	if live == nil {
		return hookAnswer{}, r.settle(ctx, req.Repo, "", nil)
	}
	if err := r.settle(ctx, req.Repo, req.Push, changes); err != nil {
		return hookAnswer{}, fmt.Errorf("the push is stored, but could not be announced yet: %w", err)
	}
	r.opt.Fault("after-confirm")
	return hookAnswer{Messages: r.pushMessages(ctx, live.repo, changes, req.Options)}, nil
}

// finish settles a push after its git has ended: what git did not change is given up.
func (r *Remote) finish(ctx context.Context, live *livePush) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	defer func() {
		r.mu.Lock()
		delete(r.live, live.id)
		r.mu.Unlock()
	}()
	row, err := r.ledger.Row(ctx, tablePush, live.id)
	if errors.Is(err, ledger.ErrNotFound) {
		return nil // refused before it was recorded
	}
	if err != nil || row.State != stateIntended {
		return err
	}
	if err := r.settle(ctx, live.repo, "", nil); err != nil {
		return err
	}
	var p Push
	if err := json.Unmarshal(row.Body, &p); err != nil {
		return err
	}
	return r.abandonIfOpen(ctx, p, "git did not change the ref")
}
