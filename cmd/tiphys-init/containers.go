package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tiphys/tiphys/executor/fork"
	"github.com/tiphys/tiphys/executor/protocol"
)

// codeCannotStart is the exit code of a container whose command cannot be started: Argo's emissary executor
// ends with 64 then.
const codeCannotStart = 64

// runContainers runs init containers one after another, then the others together; it returns when the main
// ones have ended and the files that were asked for have been read. An init container that fails ends the pod,
// as in Kubernetes.
func (p *pod) runContainers() {
	defer p.closeUnbegun()
	var mains sync.WaitGroup
	ends := map[string]*end{}
	for _, c := range p.spec.Containers {
		ends[c.Name] = &end{over: make(chan struct{})}
	}
	for _, c := range p.spec.Containers {
		if c.Kind == protocol.KindMain {
			p.mains.Add(1)
		}
	}
	for i, c := range p.spec.Containers {
		p.begun[i] = true
		switch c.Kind {
		case protocol.KindInit:
			if code := p.runOne(i); code != 0 {
				return
			}
		case protocol.KindSidecar:
			go p.runOne(i)
		default:
			mains.Go(func() { p.runInTurn(i, ends) })
		}
	}
	mains.Wait()
}

// end is how a main container ended; well if it exited with code 0. It may be read once over is closed.
type end struct {
	over chan struct{}
	well bool
}

// runInTurn runs a main container once those before it in its set have ended well, or reports that it is left out.
func (p *pod) runInTurn(i int, ends map[string]*end) {
	c := p.spec.Containers[i]
	mine := ends[c.Name]
	defer close(mine.over)
	for _, name := range c.After {
		before := ends[name]
		if before == nil {
			continue
		}
		well := false
		select {
		case <-before.over:
			well = before.well
		case <-p.halted:
		}
		if !well {
			p.closeLogs(i)
			p.finish(i, protocol.Event{Event: protocol.EventSkipped, Container: c.Name})
			return
		}
	}
	mine.well = p.runOne(i) == 0
}

// closeUnbegun closes the logs of containers that will not be started.
func (p *pod) closeUnbegun() {
	for i := range p.spec.Containers {
		if !p.begun[i] {
			p.closeLogs(i)
		}
	}
}

func (p *pod) closeLogs(i int) {
	_ = syscall.Close(firstLogFD + 2*i)
	_ = syscall.Close(firstLogFD + 2*i + 1)
}

// runOne runs one container to its end, as often as its set says, and reports it.
func (p *pod) runOne(i int) int {
	c := p.spec.Containers[i]
	for left := c.Again; ; left-- {
		proc, pid, err := p.start(i, c.Args, [3]int{-1, firstLogFD + 2*i, firstLogFD + 2*i + 1})
		if left <= 0 || err != nil {
			p.closeLogs(i)
		}
		if err != nil {
			p.finish(i, protocol.Event{Event: protocol.EventExited, Container: c.Name, Code: codeCannotStart, Reason: protocol.ReasonStart, Message: err.Error()})
			return codeCannotStart
		}
		if left == c.Again {
			p.send(protocol.Event{Event: protocol.EventStarted, Container: c.Name, PID: pid})
		}
		code := <-proc.ended
		p.killRest(i)
		if code != 0 && left > 0 && p.pause(c.AgainWait) {
			continue
		}
		if left > 0 {
			p.closeLogs(i)
		}
		p.finish(i, protocol.Event{Event: protocol.EventExited, Container: c.Name, Code: code})
		return code
	}
}

// finish reports the end of a container. Before that of the last main one the files are read: any container of a
// set may have written them.
func (p *pod) finish(i int, e protocol.Event) {
	if p.spec.Containers[i].Kind == protocol.KindMain && p.mains.Add(-1) == 0 {
		for k, c := range p.spec.Containers {
			if c.Kind == protocol.KindMain && !c.Aside {
				p.readFiles(k)
				break
			}
		}
	}
	p.send(e)
}

// pause waits, and reports whether the pod still goes on then.
func (p *pod) pause(d time.Duration) bool {
	select {
	case <-p.halted:
		return false
	case <-time.After(d):
	}
	select {
	case <-p.halted:
		return false
	default:
		return true
	}
}

// killRest ends what a container's first process left behind, as the end of a container does in Kubernetes.
func (p *pod) killRest(i int) {
	if !p.chroot {
		p.killAll(syscall.SIGKILL)
		return
	}
	// Which container a process belongs to is told by its root folder. Killing takes several rounds because
	// processes may fork meanwhile.
	root := p.rootOf(i)
	for range 100 {
		if p.killRoot(root) == 0 {
			return
		}
		<-time.After(time.Millisecond)
	}
}

func (p *pod) killRoot(root string) int {
	dir := p.rootOf(0) + "/proc"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	killed := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		if at, err := os.Readlink(filepath.Join(dir, e.Name(), "root")); err != nil || at != root {
			continue
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil && !isZombie(filepath.Join(dir, e.Name())) {
			killed++
		}
	}
	return killed
}

func isZombie(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return true
	}
	s := string(b)
	s = s[strings.LastIndexByte(s, ')')+1:]
	return strings.HasPrefix(s, " Z") || strings.HasPrefix(s, " X")
}

// readFiles reads the files that the order asks for from the main container's file system, and tells who output artifacts are read as.
func (p *pod) readFiles(i int) {
	if len(p.spec.Files) == 0 && !p.spec.Hold {
		return
	}
	e := protocol.Event{Event: protocol.EventRead, Files: map[string]string{}}
	root, err := openRoot(filepath.Join("/", p.chrootOf(i)))
	if err != nil {
		return
	}
	defer root.close()
	// What the step left there it may have left for others: a link or a file of the kernel that it may not read itself.
	reader, err := p.reader(i, root)
	if err != nil {
		return
	}
	e.Reader = &protocol.Reader{UID: reader.UID, GID: reader.GID, Groups: reader.Groups, KeepGroups: reader.KeepGroups,
		Capabilities: reader.Capabilities, Users: reader.Users >= 0}
	left := int64(protocol.ParametersLimit)
	for _, name := range slices.Sorted(maps.Keys(p.spec.Files)) {
		data, err := root.readAs(reader, p.spec.Files[name], left)
		switch {
		case err == nil:
			e.Files[name] = string(data)
			left -= int64(len(data))
		case errors.Is(err, errTooLarge):
			e.TooLarge = append(e.TooLarge, name)
		default:
			e.Missing = append(e.Missing, name)
		}
	}
	p.send(e)
}

// reader is who a container's files are read as: its user.
func (p *pod) reader(i int, root folder) (fork.User, error) {
	c := p.spec.Containers[i]
	who, err := lookupUser(root, c.User)
	if err != nil {
		return fork.User{}, err
	}
	return p.user(c, who), nil
}

// user is who the processes of a container are.
func (p *pod) user(c protocol.Container, who identity) fork.User {
	u := fork.User{Users: p.own.users, UID: who.uid, GID: who.gid, Groups: append(who.groups, c.Groups...), Capabilities: c.Capabilities}
	if c.Privileged {
		u.Capabilities = ^uint64(0)
	}
	if !p.ownIDs() && p.alone {
		u.Groups, u.KeepGroups = nil, true
	}
	return u
}

// start starts a command in container i. Descriptors below 0 are /dev/null.
func (p *pod) start(i int, args []string, files [3]int) (*process, int, error) {
	c := p.spec.Containers[i]
	if len(args) == 0 {
		return nil, 0, errors.New("no command specified")
	}
	chroot := p.chrootOf(i)
	root, err := openRoot(filepath.Join("/", chroot))
	if err != nil {
		return nil, 0, err
	}
	defer root.close()
	root.owner = p.root()
	who, err := lookupUser(root, c.User)
	if err != nil {
		return nil, 0, err
	}
	if c.NonRoot && who.uid == 0 {
		return nil, 0, errors.New("container has runAsNonRoot and image will run as root")
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	uid, err := p.outside(who.uid)
	if err != nil {
		return nil, 0, err
	}
	gid, err := p.outside(who.gid)
	if err != nil {
		return nil, 0, err
	}
	if err := workingDir(root, dir, uid, gid); err != nil {
		return nil, 0, err
	}
	env := c.Env
	if !hasEnv(env, "HOME") {
		env = append(env[:len(env):len(env)], "HOME="+who.home)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil && p.chroot {
		null, err = syscall.Open(filepath.Join(chroot, "dev/null"), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("open /dev/null: %w", err)
	}
	defer func() { _ = syscall.Close(null) }()
	u := p.user(c, who)
	command := &fork.Command{
		Args: args, Env: env, Root: chroot, Dir: dir, Users: u.Users, UID: u.UID, GID: u.GID, Groups: u.Groups, KeepGroups: u.KeepGroups, Capabilities: u.Capabilities,
		NoNewPrivs: c.NoNewPrivs, Filter: c.Filter, Keyring: !c.Host, Cgroups: !c.Privileged, Slack: usualSlack,
	}
	if d := p.spec.Descriptors; d != nil {
		command.Descriptors = &syscall.Rlimit{Cur: d.Soft, Max: d.Hard}
	}
	for n, fd := range files {
		if fd < 0 {
			fd = null
		} else if err := syscall.Fchown(fd, uid, gid); err != nil {
			// /dev/stdout is opened anew by who writes to it by name.
			return nil, 0, fmt.Errorf("hand over the output: %w", err)
		}
		command.Files[n] = fd
	}
	return p.fork(i, root, command)
}

// fork tries the places where the command may be.
func (p *pod) fork(i int, root folder, command *fork.Command) (*process, int, error) {
	name := command.Args[0]
	notFound := fmt.Errorf("exec: %q: executable file not found in $PATH", name)
	if strings.Contains(name, "/") {
		notFound = fmt.Errorf("exec: %q: no such file or directory", name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return nil, 0, errors.New("the pod is being stopped")
	}
	for _, path := range candidates(name, command.Env) {
		fd, err := root.open(inDir(path, command.Dir), openPath)
		if err != nil {
			continue
		}
		_ = syscall.Close(fd)
		command.Path = path
		pid, err := command.Start()
		switch {
		case err == nil:
			proc := &process{container: i, ended: make(chan int, 1)}
			p.running[pid] = proc
			return proc, pid, nil
		case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
			continue
		case errors.Is(err, syscall.EACCES):
			notFound = fmt.Errorf("exec: %q: permission denied", path)
			continue
		}
		return nil, 0, fmt.Errorf("exec: %q: %w", path, err)
	}
	return nil, 0, notFound
}

func inDir(path, dir string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// candidates are the files that a command name may mean.
func candidates(name string, env []string) []string {
	if strings.Contains(name, "/") {
		return []string{name}
	}
	var found []string
	for _, dir := range filepath.SplitList(getEnv(env, "PATH")) {
		if dir == "" {
			continue // the current folder is never searched
		}
		found = append(found, filepath.Join(dir, name))
	}
	return found
}

func getEnv(env []string, name string) string {
	value := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

func hasEnv(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}

// exec runs a command beside a container's own process.
func (p *pod) exec(r protocol.Request) {
	defer p.execs.Done()
	answer := protocol.Event{Event: protocol.EventExec, Number: r.Number, Code: -1}
	defer func() { p.send(answer) }()
	index := -1
	for i, c := range p.spec.Containers {
		if c.Name == r.Container {
			index = i
		}
	}
	if index < 0 || !p.isRunning(index) {
		answer.Message = fmt.Sprintf("container %q is not running", r.Container)
		return
	}
	read, write, err := os.Pipe()
	if err != nil {
		answer.Message = err.Error()
		return
	}
	defer func() { _ = read.Close() }()
	w := int(write.Fd())
	proc, _, err := p.start(index, r.Args, [3]int{-1, w, w})
	_ = write.Close()
	if err != nil {
		answer.Code, answer.Message = codeCannotStart, err.Error()
		return
	}
	output := make(chan []byte, 1)
	go func() { output <- readHead(read, protocol.ExecLimit) }()
	answer.Code = <-proc.ended
	answer.Output = <-output
}

func (p *pod) isRunning(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, proc := range p.running {
		if proc.container == i {
			return true
		}
	}
	return false
}

// readHead reads to the end and keeps the first limit bytes.
func readHead(f *os.File, limit int) []byte {
	var kept []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if room := limit - len(kept); room > 0 {
			kept = append(kept, buf[:min(n, room)]...)
		}
		if n == 0 || err != nil {
			return kept
		}
	}
}
