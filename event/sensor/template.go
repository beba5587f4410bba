package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// maxOutput bounds what one template, script or parameter may produce, in bytes.
const maxOutput = 1 << 20

// errTooLarge says that a template or script made more than it may.
var errTooLarge = fmt.Errorf("result is larger than %d bytes", maxOutput)

// limitedBuffer refuses to grow beyond maxOutput.
type limitedBuffer struct{ bytes.Buffer }

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxOutput {
		return 0, errTooLarge
	}
	return b.Buffer.Write(p)
}

// templateFuncs are sprig's functions without those that read the machine, draw random numbers or make keys, and
// with bounds where one call could use all memory. now is the event's time, so that a replay gives the same.
func templateFuncs(now time.Time) template.FuncMap {
	funcs := sprig.TxtFuncMap()
	for name := range funcs {
		if strings.HasPrefix(name, "gen") || strings.HasPrefix(name, "rand") {
			delete(funcs, name)
		}
	}
	for _, name := range []string{"env", "expandenv", "getHostByName", "shuffle", "uuidv4", "bcrypt", "htpasswd",
		"derivePassword", "buildCustomCert", "encryptAES", "decryptAES", "ago"} {
		delete(funcs, name)
	}
	funcs["now"] = func() time.Time { return now }
	funcs["repeat"] = func(count int, s string) (string, error) {
		if count < 0 || len(s) > 0 && count > maxOutput/len(s) {
			return "", errTooLarge
		}
		return strings.Repeat(s, count), nil
	}
	indent := func(prefix string) func(int, string) (string, error) {
		return func(n int, s string) (string, error) {
			if n < 0 || n > 1000 || n*(strings.Count(s, "\n")+1) > maxOutput {
				return "", errTooLarge
			}
			pad := strings.Repeat(" ", n)
			return prefix + pad + strings.ReplaceAll(s, "\n", "\n"+pad), nil
		}
	}
	funcs["indent"], funcs["nindent"] = indent(""), indent("\n")
	const most = 100_000
	sequence := func(start, stop, step int) ([]int, error) {
		if step == 0 || (stop > start) != (step > 0) {
			return []int{}, nil
		}
		if n := (stop - start) / step; n > most || n < 0 {
			return nil, errors.New("sequence is longer than 100000")
		}
		out := []int{}
		for i := start; (step > 0 && i < stop) || (step < 0 && i > stop); i += step {
			out = append(out, i)
		}
		return out, nil
	}
	funcs["untilStep"] = sequence
	funcs["until"] = func(n int) ([]int, error) {
		if n < 0 {
			return sequence(0, n, -1)
		}
		return sequence(0, n, 1)
	}
	delete(funcs, "seq")
	return funcs
}

// render executes a text template with .Input; an empty result and "<no value>" are errors, as in Argo.
func render(text string, input any, now time.Time) (string, error) {
	t, err := template.New("template").Funcs(templateFuncs(now)).Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse template: %w", err)
	}
	var out limitedBuffer
	if err := t.Execute(&out, map[string]any{"Input": input}); err != nil {
		return "", fmt.Errorf("execute template: %w", err)
	}
	switch s := out.String(); s {
	case "", "<no value>":
		return "", fmt.Errorf("template gives no value")
	default:
		return s, nil
	}
}
