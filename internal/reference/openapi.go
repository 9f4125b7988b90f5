package reference

import (
	"fmt"

	"github.com/weirdata/weir/internal/admin"
	"github.com/weirdata/weir/internal/api"
	"github.com/weirdata/weir/internal/console"
)

// OpenAPI is the description of what the admin block answers below /v1: docs/openapi.json.
func OpenAPI() ([]byte, error) {
	c, err := console.New(console.Options{})
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	text, err := api.Describe(append(admin.Routes(admin.Options{}), c.Routes(nil)...))
	if err != nil {
		return nil, fmt.Errorf("describe the API: %w", err)
	}
	return append(text, '\n'), nil
}
