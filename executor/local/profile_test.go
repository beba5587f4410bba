package local

import (
	"encoding/binary"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// TestProfilePrograms: for every profile and every call the program decides as a reading of the profile does.
func TestProfilePrograms(t *testing.T) {
	const machine = 7
	words := rapid.SampledFrom([]uint64{0, 1, 5, 1 << 31, 1<<32 - 1, 1 << 32, 5<<32 | 5, 1<<64 - 1})
	rapid.Check(t, func(t *rapid.T) {
		numbers := rapid.Uint32Range(0, 20)
		r := calls{refused: 1, allowed: map[uint32]bool{}, errnos: map[uint32]uint16{}, some: map[uint32][][]specs.LinuxSeccompArg{}}
		for _, n := range rapid.SliceOfN(numbers, 0, 8).Draw(t, "allowed") {
			r.allowed[n] = true
		}
		for _, n := range rapid.SliceOfN(numbers, 0, 3).Draw(t, "errnos") {
			r.errnos[n] = uint16(n + 30)
		}
		arg := rapid.Custom(func(t *rapid.T) specs.LinuxSeccompArg {
			return specs.LinuxSeccompArg{
				Index: rapid.UintRange(0, 5).Draw(t, "index"), Value: words.Draw(t, "value"), ValueTwo: words.Draw(t, "second"),
				Op: rapid.SampledFrom([]specs.LinuxSeccompOperator{specs.OpEqualTo, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpGreaterThan, specs.OpGreaterEqual, specs.OpMaskedEqual, "unheard of"}).Draw(t, "operator"),
			}
		})
		for _, n := range rapid.SliceOfN(numbers, 0, 4).Draw(t, "some") {
			r.some[n] = append(r.some[n], rapid.SliceOfN(arg, 1, 3).Draw(t, "conditions"))
		}
		vm, err := bpf.NewVM(r.program(machine))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			number := rapid.OneOf(numbers, rapid.SampledFrom([]uint32{foreignCalls, foreignCalls + 1, 1<<32 - 1})).Draw(t, "number")
			arch := rapid.SampledFrom([]uint32{machine, machine, machine, 8}).Draw(t, "architecture")
			args := rapid.SliceOfN(words, 6, 6).Draw(t, "arguments")
			if got, want := result(t, vm, number, arch, args), wanted(r, arch == machine, number, args); got != want {
				t.Fatalf("call %d of architecture %d with %v: %#x, want %#x", number, arch, args, got, want)
			}
		}
	})
}

// result is what a program says. The machine that tests it reads words from their most significant byte on.
func result(t *rapid.T, vm *bpf.VM, number, arch uint32, args []uint64) int {
	data := binary.BigEndian.AppendUint32(nil, number)
	data = binary.BigEndian.AppendUint32(data, arch)
	data = append(data, make([]byte, 8)...)
	for _, a := range args {
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	got, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func wanted(r calls, ours bool, number uint32, args []uint64) int {
	if ours && number < foreignCalls {
		if r.allowed[number] {
			return retAllow
		}
		if e, ok := r.errnos[number]; ok {
			return retErrno | int(e)
		}
		for _, list := range r.some[number] {
			if all(list, args) {
				return retAllow
			}
		}
	}
	return retErrno | int(r.refused)
}

func all(list []specs.LinuxSeccompArg, args []uint64) bool {
	for _, c := range list {
		a := args[c.Index]
		if !map[specs.LinuxSeccompOperator]bool{
			specs.OpEqualTo: a == c.Value, specs.OpNotEqual: a != c.Value, specs.OpLessThan: a < c.Value, specs.OpLessEqual: a <= c.Value,
			specs.OpGreaterThan: a > c.Value, specs.OpGreaterEqual: a >= c.Value, specs.OpMaskedEqual: a&c.Value == c.ValueTwo,
		}[c.Op] {
			return false
		}
	}
	return true
}

// The kernel takes 4,096 instructions, and every one of them is sent with each order.
func TestProfileIsSmall(t *testing.T) {
	var p profiles
	for _, set := range []uint64{0, defaultCapabilities(), 1<<41 - 1} {
		filter, err := p.of(set)
		if err != nil || len(filter) > 8*1000 || len(filter) < 8*100 {
			t.Errorf("capabilities %x: %d bytes, %v", set, len(filter), err)
		}
	}
}
