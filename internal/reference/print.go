package reference

// Markdown is a page as docs/reference has it.
func Markdown(p Page) []byte {
	if p.Kind == KindConfig {
		return configMarkdown(p)
	}
	return markdown(p)
}

// Schema is the JSON schema of the config, as docs/weir.schema.json has it.
func Schema() ([]byte, error) { return schema(pages()) }
