package local

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// Which system calls a container may use is the default profile of container engines (RuntimeDefault in Kubernetes): what it does not list
// fails with EPERM. Programs of another architecture than the machine's, 32 bits among them, get EPERM from every call.

// profiles are the compiled profiles by capabilities, which change what a container may call. The zero value is ready.
type profiles struct {
	mu   sync.Mutex
	made map[uint64][]byte
}

// maxProfiles bounds how many are kept: a hostile author could ask for every set of capabilities.
const maxProfiles = 64

// of gives the program for the kernel, in the form of seccomp(2): an array of struct sock_filter.
func (p *profiles) of(capabilities uint64) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if filter, ok := p.made[capabilities]; ok {
		return filter, nil
	}
	filter, err := compileProfile(capabilities)
	if err != nil {
		return nil, fmt.Errorf("compile the profile of system calls: %w", err)
	}
	if p.made == nil || len(p.made) >= maxProfiles {
		p.made = map[uint64][]byte{}
	}
	p.made[capabilities] = filter
	return filter, nil
}

// seccompOff reports whether a container asks to be unconfined, as only a pod may that has a grant for it.
func seccompOff(pod *corev1.PodSecurityContext, c *corev1.SecurityContext) bool {
	var profile *corev1.SeccompProfile
	if pod != nil {
		profile = pod.SeccompProfile
	}
	if c != nil && c.SeccompProfile != nil {
		profile = c.SeccompProfile
	}
	return profile != nil && profile.Type == corev1.SeccompProfileTypeUnconfined
}

func compileProfile(capabilities uint64) ([]byte, error) {
	var names []string
	for name, number := range capabilityNumbers() {
		if capabilities&(1<<number) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: names}}})
	if err != nil {
		return nil, err
	}
	machine, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	rules, err := callsOf(profile, machine)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(rules.program(uint32(machine.ID)))
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		out = binary.NativeEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// calls are the rules of a profile by the numbers of system calls.
type calls struct {
	// refused is the errno of what is not listed.
	refused uint16
	allowed map[uint32]bool
	// errnos are those of calls that fail otherwise than usual.
	errnos map[uint32]uint16
	// some are calls that are allowed if all conditions of one of their lists hold.
	some map[uint32][][]specs.LinuxSeccompArg
}

// alwaysCalled are what our own init calls in a container's name before its command begins. The kernel asks for the capability besides.
func alwaysCalled() []string { return []string{"chroot"} }

// callsOf reads a profile. A call that the machine does not have is left out.
func callsOf(profile *specs.LinuxSeccomp, machine *arch.Info) (calls, error) {
	r := calls{refused: uint16(unix.EPERM), allowed: map[uint32]bool{}, errnos: map[uint32]uint16{}, some: map[uint32][][]specs.LinuxSeccompArg{}}
	if profile.DefaultErrnoRet != nil {
		r.refused = uint16(*profile.DefaultErrnoRet)
	}
	if profile.DefaultAction != specs.ActErrno {
		return r, fmt.Errorf("the profile's default is %s, which is not known here", profile.DefaultAction)
	}
	rules := append(profile.Syscalls, specs.LinuxSyscall{Names: alwaysCalled(), Action: specs.ActAllow})
	for _, rule := range rules {
		for _, name := range rule.Names {
			n, ok := machine.SyscallNames[name]
			if !ok {
				continue
			}
			number := uint32(n)
			switch {
			case rule.Action == specs.ActErrno && rule.ErrnoRet != nil && len(rule.Args) == 0:
				r.errnos[number] = uint16(*rule.ErrnoRet)
			case rule.Action != specs.ActAllow:
				return r, fmt.Errorf("the profile says %s of %s, which is not known here", rule.Action, name)
			case len(rule.Args) == 0:
				r.allowed[number] = true
			default:
				r.some[number] = append(r.some[number], rule.Args)
			}
		}
	}
	return r, nil
}

// Where struct seccomp_data of seccomp(2) has its parts; an argument has its upper half first on no machine that is served here.
const (
	atNumber, atArch, atArgs = 0, 4, 16
	foreignCalls             = 0x40000000 // from here on numbers are those of amd64's x32
)

const (
	retAllow = 0x7fff0000
	retErrno = 0x00050000
)

// program is that of the rules. Whatever is known by its number alone is decided first; each call with conditions is decided within its own
// part.
func (r calls) program(machine uint32) []bpf.Instruction {
	deny := bpf.RetConstant{Val: retErrno | uint32(r.refused)}
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: atArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: machine, SkipTrue: 1},
		deny,
		bpf.LoadAbsolute{Off: atNumber, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: foreignCalls, SkipTrue: 1},
		deny,
	}
	for _, run := range runsOf(r.allowed) {
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: run.first, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: run.last, SkipTrue: 1},
			bpf.RetConstant{Val: retAllow})
	}
	for _, n := range slices.Sorted(maps.Keys(r.errnos)) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: n, SkipTrue: 1}, bpf.RetConstant{Val: retErrno | uint32(r.errnos[n])})
	}
	for _, n := range slices.Sorted(maps.Keys(r.some)) {
		var part []bpf.Instruction
		for _, args := range r.some[n] {
			part = append(part, allOf(args)...)
		}
		part = append(part, deny)
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: n, SkipTrue: 1}, bpf.Jump{Skip: uint32(len(part))})
		p = append(p, part...)
	}
	return append(p, deny)
}

// callRun is a row of numbers without a gap.
type callRun struct{ first, last uint32 }

func runsOf(numbers map[uint32]bool) []callRun {
	var runs []callRun
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		if last := len(runs) - 1; last >= 0 && runs[last].last+1 == n {
			runs[last].last = n
		} else {
			runs = append(runs, callRun{n, n})
		}
	}
	return runs
}

// allOf allows the call if all conditions hold, and else goes on behind itself.
func allOf(args []specs.LinuxSeccompArg) []bpf.Instruction {
	p := []bpf.Instruction{bpf.RetConstant{Val: retAllow}}
	for _, a := range slices.Backward(args) {
		p = append(compare(a, len(p)), p...)
	}
	return p
}

// compare goes on behind itself if a condition holds, and else skips so many instructions more. Numbers have 64 bits and registers 32: the
// upper halves decide, unless they are equal.
func compare(a specs.LinuxSeccompArg, skip int) []bpf.Instruction {
	upper := bpf.LoadAbsolute{Off: uint32(atArgs + 8*a.Index + 4), Size: 4}
	lower := bpf.LoadAbsolute{Off: uint32(atArgs + 8*a.Index), Size: 4}
	high, low := uint32(a.Value>>32), uint32(a.Value)
	fail := bpf.Jump{Skip: uint32(skip)}
	ordered := func(above, last bpf.JumpTest) []bpf.Instruction {
		return []bpf.Instruction{
			upper,
			bpf.JumpIf{Cond: above, Val: high, SkipTrue: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
			lower,
			bpf.JumpIf{Cond: last, Val: low, SkipTrue: 1},
			fail,
		}
	}
	switch a.Op {
	case specs.OpEqualTo:
		return []bpf.Instruction{
			upper,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: high, SkipFalse: 2},
			lower,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: low, SkipTrue: 1},
			fail,
		}
	case specs.OpNotEqual:
		return []bpf.Instruction{
			upper,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: high, SkipTrue: 3},
			lower,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: low, SkipTrue: 1},
			fail,
		}
	case specs.OpMaskedEqual:
		return []bpf.Instruction{
			upper,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: high},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(a.ValueTwo >> 32), SkipFalse: 3},
			lower,
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: low},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(a.ValueTwo), SkipTrue: 1},
			fail,
		}
	case specs.OpLessThan:
		return ordered(bpf.JumpLessThan, bpf.JumpLessThan)
	case specs.OpLessEqual:
		return ordered(bpf.JumpLessThan, bpf.JumpLessOrEqual)
	case specs.OpGreaterThan:
		return ordered(bpf.JumpGreaterThan, bpf.JumpGreaterThan)
	case specs.OpGreaterEqual:
		return ordered(bpf.JumpGreaterThan, bpf.JumpGreaterOrEqual)
	}
	return []bpf.Instruction{fail} // a comparison that is not known holds never
}
