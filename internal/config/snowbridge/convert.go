package snowbridge

import (
	"bytes"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/weirdata/weir/internal/config"
)

// Convert writes a config file in the present form. A file without older forms comes back
// as it is, byte for byte; of another one the comments stay, and its layout is that of
// HCL's formatter. The result means what src means, and converting it again changes
// nothing. The warnings are about what was changed; with an error there is no result.
func Convert(name string, src []byte) ([]byte, config.Diagnostics) {
	return convertFrom(name, src, "")
}

// convertFrom is Convert of a file that is known to be from before 3.0.0, unless early is
// empty.
func convertFrom(name string, src []byte, early string) ([]byte, config.Diagnostics) {
	f, ds := config.ParseSyntax(name, src)
	if ds.HasErrors() {
		return nil, ds
	}
	if early == "" {
		early = earlyForm(f)
	}
	ds = append(ds, modernize(f, early)...)
	if ds = ds.Sorted(name); ds.HasErrors() {
		return nil, ds
	}
	text, more := convertText(name, src, early)
	return text, append(ds, more...)
}

// convertText applies the dialects to a text, one after the other.
func convertText(name string, src []byte, early string) ([]byte, config.Diagnostics) {
	bom, text := bytes.HasPrefix(src, byteOrderMark), bytes.TrimPrefix(src, byteOrderMark)
	windows := bytes.Contains(text, []byte("\r\n"))
	before := text
	for _, form := range dialects {
		var ds config.Diagnostics
		if text, ds = rewriteText(name, text, form, early); ds.HasErrors() {
			return nil, ds
		}
	}
	if bytes.Equal(before, text) {
		return src, nil
	}
	if windows {
		text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	}
	text = hclwrite.Format(text)
	if windows {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	if bom {
		text = append(bytes.Clone(byteOrderMark), text...)
	}
	return text, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// rewriteText applies one dialect to a text.
func rewriteText(name string, text []byte, form dialect, early string) ([]byte, config.Diagnostics) {
	for {
		f, ds := config.ParseSyntax(name, text)
		if ds.HasErrors() {
			return nil, ds
		}
		r := &rewriter{file: f, since: form.Since, early: early}
		r.apply(form)
		if len(r.cramped) == 0 {
			return applied(text, r.edits), nil
		}
		text = spread(text, r.cramped)
	}
}

// onlyTransforms reports whether a file holds transform blocks and nothing else.
func onlyTransforms(b *hclsyntax.Body) bool {
	for _, block := range b.Blocks {
		if block.Type != "transform" {
			return false
		}
	}
	return len(b.Attributes) == 0
}
