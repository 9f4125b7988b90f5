package usertransform

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/weirdata/weir/internal/connector"
	"github.com/weirdata/weir/internal/httpclient"
)

// Config says where the code of user transformations is, and what it may do.
type Config struct {
	// Directory with the code: VERSION.js, or VERSION.json as the control plane gives it, for each
	// version of a transformation; libraries as VERSION.json, or as VERSION.js, which are then
	// imported by the version. A relative path means from the directory of the config file. One
	// of directory, url and transformer_url is needed.
	Directory string `hcl:"directory,optional"`
	// URL of a control plane that is asked for code by its version.
	URL string `hcl:"url,optional"`
	// What the control plane asks for, as the user name of basic authentication.
	Secret string `hcl:"secret,optional"`
	// Directory that keeps the code that was fetched, so that a start needs no control plane. A
	// version that is in it is not asked for again. Default: it is kept in memory.
	CacheDirectory string `hcl:"cache_directory,optional"`
	// URL of a rudder-transformer, which runs the code in the place of this process.
	TransformerURL string `hcl:"transformer_url,optional"`
	// Longest time, in milliseconds, that code may run for one call, without what it waits for;
	// 4000 by default.
	TimeoutMillis int `hcl:"timeout_millis,optional"`
	// Longest time, in milliseconds, that events for others wait for what the code of one
	// destination waits for, as the answer to a fetch; 1000 by default. An event that would wait longer
	// goes on unfinished, to the target webhook, which runs the code when it sends the event; raise
	// it where there are other targets, which refuse what is unfinished.
	PatienceMillis int `hcl:"patience_millis,optional"`
	// By how many MiB memory may grow while code runs; 128 by default.
	MemoryLimitMB int `hcl:"memory_limit_mb,optional"`
	// Networks, as "10.0.0.0/8", that code may reach with fetch though they are not of the public
	// internet. None by default.
	AllowNetworks []string `hcl:"allow_networks,optional"`
	// Path of a MaxMind database for the function geolocation. Without one it is rejected.
	GeolocationDatabase string `hcl:"geolocation_database,optional"`
}

// SetDefaults sets what a block need not say.
func (c *Config) SetDefaults() {
	c.TimeoutMillis, c.PatienceMillis, c.MemoryLimitMB = 4000, 1000, 128
}

// Validate names what could never work.
func (c *Config) Validate() (ps []connector.Problem) {
	refuse := func(field, what, fix string) {
		ps = append(ps, connector.Problem{Field: field, What: what, Fix: fix})
	}
	n := 0
	for _, s := range []string{c.Directory, c.URL, c.TransformerURL} {
		if s != "" {
			n++
		}
	}
	if n != 1 {
		refuse("", "it is not said where the code of transformations is, or said more than once", "write one of directory, url and transformer_url")
	}
	if c.URL != "" && !httpclient.Whole(c.URL) {
		refuse("url", "url is not a whole http or https URL", "write it like https://api.rudderstack.com")
	}
	if c.TransformerURL != "" && !httpclient.Whole(c.TransformerURL) {
		refuse("transformer_url", "transformer_url is not a whole http or https URL", "write it like http://127.0.0.1:9090")
	}
	if c.CacheDirectory != "" && c.URL == "" {
		refuse("cache_directory", "cache_directory keeps what comes from a url, and there is none", "leave it out")
	}
	if c.Secret != "" && c.URL == "" {
		refuse("secret", "secret is for a url, and there is none", "leave it out")
	}
	if c.TimeoutMillis < 1 {
		refuse("timeout_millis", fmt.Sprintf("timeout_millis must be at least 1, not %d", c.TimeoutMillis), "leave it out to use 4000")
	}
	if c.PatienceMillis < 1 {
		refuse("patience_millis", fmt.Sprintf("patience_millis must be at least 1, not %d", c.PatienceMillis), "leave it out to use 1000")
	}
	if c.MemoryLimitMB < 1 {
		refuse("memory_limit_mb", fmt.Sprintf("memory_limit_mb must be at least 1, not %d", c.MemoryLimitMB), "leave it out to use 128")
	}
	if _, err := networks(c.AllowNetworks); err != nil {
		refuse("allow_networks", err.Error(), `write networks like "10.0.0.0/8"`)
	}
	return ps
}

func networks(texts []string) (all []netip.Prefix, err error) {
	for _, text := range texts {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("allow_networks has %q, which is no network", text)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}
