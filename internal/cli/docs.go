package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/weirdata/weir/internal/reference"
)

func docsCommand(s Streams) *cobra.Command {
	format := "markdown"
	c := &cobra.Command{
		Use:   "docs",
		Short: "Print the reference of every config block and connector",
		Long: `Print the reference of every config block and connector, as Markdown or as a JSON schema
that editors understand. Both are made from the code this binary was built from.`,
		Args: exactly(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			switch format {
			case "markdown":
				for i, p := range reference.Pages("") {
					if i > 0 {
						fmt.Fprintln(s.Out)
					}
					if _, err := s.Out.Write(reference.Markdown(p)); err != nil {
						return err
					}
				}
				return nil
			case "json-schema":
				schema, err := reference.Schema()
				if err != nil {
					return err
				}
				_, err = s.Out.Write(schema)
				return err
			}
			return usagef("supported formats are 'markdown, json-schema'; provided %s", format)
		},
	}
	c.Flags().StringVar(&format, "format", format, "markdown or json-schema")
	return c
}
