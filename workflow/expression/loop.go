package expression

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/tiphys/tiphys/manifest"
)

// MaxItems is how many items a loop may have.
const MaxItems = 100_000

// maxItemsText is how much text the items of a sequence may have together, in bytes.
const maxItemsText = 16 << 20

// Sequence gives the items of a withSequence whose tags have been replaced: from start (default 0) to end, up or
// down, or count of them, printed with format (default %d).
func Sequence(s manifest.Sequence) ([]any, error) {
	start, err := sequenceNumber("start", s.Start)
	if err != nil {
		return nil, err
	}
	var end int
	switch {
	case s.Count != nil && s.End != nil:
		return nil, fmt.Errorf("only one of count or end can be defined in withSequence")
	case s.End != nil:
		if end, err = sequenceNumber("end", s.End); err != nil {
			return nil, err
		}
	case s.Count != nil:
		count, err := sequenceNumber("count", s.Count)
		if err != nil {
			return nil, err
		}
		if count == 0 {
			return []any{}, nil
		}
		end = start + count - 1
	default:
		return nil, fmt.Errorf("must have either count or end in withSequence")
	}
	step := 1
	if end < start {
		step = -1
	}
	count := (end-start)*step + 1
	if count < 0 || count > MaxItems {
		return nil, fmt.Errorf("withSequence has %d items, more than the %d allowed", count, MaxItems)
	}
	items, total := make([]any, 0, count), 0
	for i := start; len(items) < count; i += step {
		text, err := sequenceText(s.Format, i)
		if err != nil {
			return nil, err
		}
		if total += len(text); total > maxItemsText {
			return nil, fmt.Errorf("withSequence: its items have more than %d bytes together", maxItemsText)
		}
		items = append(items, text)
	}
	return items, nil
}

func sequenceNumber(field string, value *manifest.AnyString) (int, error) {
	if value == nil {
		return 0, nil
	}
	n, err := strconv.ParseInt(strings.TrimSpace(value.Text()), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("withSequence.%s: %q is not a whole number", field, value.Text())
	}
	return int(n), nil
}

func sequenceText(format string, i int) (string, error) {
	if format == "" {
		return strconv.Itoa(i), nil
	}
	// A width such as %1000000000d would fill the memory.
	if len(format) > 256 || hugeWidth(format) {
		return "", fmt.Errorf("withSequence.format %q is too wide", format)
	}
	text := fmt.Sprintf(format, i)
	if strings.Contains(text, "%!") {
		return "", fmt.Errorf("withSequence.format %q does not fit one number: use %%d, %%02d or %%x", format)
	}
	return text, nil
}

// hugeWidth tells whether a verb has a width or precision of more than three digits.
func hugeWidth(format string) bool {
	for {
		_, verb, found := strings.Cut(format, "%")
		if !found {
			return false
		}
		flags := len(verb) - len(strings.TrimLeft(verb, "0123456789.+-# *[]"))
		if flags > 5 || strings.ContainsAny(verb[:flags], "*[") {
			return true
		}
		format = verb
	}
}

// ParamItems reads a withParam whose tags have been replaced: a JSON list.
func ParamItems(text string) ([]any, error) {
	tree, err := manifest.ParseTree([]byte(strings.TrimSpace(text)))
	if err != nil || tree.Kind() != manifest.KindList {
		return nil, fmt.Errorf("withParam value could not be parsed as a JSON list: %s", strings.TrimSpace(cut(text, 200)))
	}
	if tree.Len() > MaxItems {
		return nil, fmt.Errorf("withParam has %d items, more than the %d allowed", tree.Len(), MaxItems)
	}
	items, _ := tree.Value().([]any)
	return items, nil
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

// ItemText is an item as `{{item}}` shows it: a scalar's text, a list or map as JSON.
func ItemText(item any) string {
	if item == nil {
		return "null"
	}
	return Text(item)
}

// ItemScope is what an item adds to a scope: item, and for a map item.KEY.
func ItemScope(item any) Values {
	values := Values{"item": ItemText(item)}
	if m, ok := item.(map[string]any); ok {
		for key, value := range m {
			values["item."+key] = ItemText(value)
		}
	}
	return values
}

// ItemName is the name of a loop's child: name(0:item). A map shows as k:v,k2:v2 in order, a list as JSON;
// parentheses are left out, as in Argo.
func ItemName(name string, index int, item any) string {
	text := ItemText(item)
	if m, ok := item.(map[string]any); ok {
		pairs := make([]string, 0, len(m))
		for key, value := range m {
			pairs = append(pairs, key+":"+ItemText(value))
		}
		sort.Strings(pairs)
		text = strings.Join(pairs, ",")
	}
	return fmt.Sprintf("%s(%d:%s)", name, index, strings.NewReplacer("(", "", ")", "").Replace(text))
}

// Aggregate joins the results of a loop's children into the JSON list that its outputs.result is: a child's text
// is taken as JSON where it is JSON, as in Argo.
func Aggregate(results []string) string {
	list := make([]any, len(results))
	for i, r := range results {
		list[i] = r
		if trimmed := strings.TrimSpace(r); json.Valid([]byte(trimmed)) {
			list[i] = json.RawMessage(trimmed)
		}
	}
	return toJSON(list)
}

// Duration reads seconds ("10") or a Go duration ("10s", "2m"), as Argo does.
func Duration(text string) (time.Duration, error) {
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		const most = int64(1<<63-1) / int64(time.Second)
		if seconds > most || seconds < -most {
			return 0, fmt.Errorf("duration %q is too long", text)
		}
		return time.Duration(seconds) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("unable to parse %q as a duration: want seconds or a number with a unit, such as 10s or 2m", text)
	}
	return d, nil
}
