package gcs

import (
	"fmt"
	"regexp"

	"github.com/weirdata/weir/internal/cloud/gcp"
	"github.com/weirdata/weir/internal/connector"
)

// Access is how a bucket of Cloud Storage is reached, and how objects are stored there.
type Access struct {
	// CredentialsPath is the file of a key of a service account, or of another kind that gcloud
	// writes; the default credentials of Google Cloud without it. A relative path means from the
	// folder of the config file.
	CredentialsPath string `hcl:"credentials_path,optional"`
	// Endpoint is another address than storage.googleapis.com, as host and port; one that begins
	// with http:// is called in the clear and without credentials. The variable
	// STORAGE_EMULATOR_HOST leads to an emulator, whatever is said here.
	Endpoint string `hcl:"endpoint,optional"`
	// BillingProject is the project that pays for requests, where the owner of the bucket does not.
	BillingProject string `hcl:"billing_project,optional"`
	// KMSKey is the key of Cloud KMS that encrypts new objects
	// ("projects/P/locations/L/keyRings/R/cryptoKeys/K"); by default as the bucket says.
	KMSKey string `hcl:"kms_key,optional"`
}

var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)
	keyName    = regexp.MustCompile(`^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$`)
)

// CheckBucket says why a bucket cannot have the name.
func CheckBucket(name string) error {
	if !bucketName.MatchString(name) {
		return fmt.Errorf("%q is not the name of a bucket of Cloud Storage, which has 3 to 222 of a-z, 0-9, -, _ and .", name)
	}
	return nil
}

// Problems are what is wrong, as far as can be known without a network. Fields are those of the
// block.
func (a Access) Problems() []connector.Problem {
	ps := gcp.CheckEndpoint(a.Endpoint)
	if a.KMSKey != "" && !keyName.MatchString(a.KMSKey) {
		ps = append(ps, connector.Problem{Field: "kms_key", What: fmt.Sprintf("kms_key %q is not the name of a key of Cloud KMS", a.KMSKey), Fix: `write it as "projects/P/locations/L/keyRings/R/cryptoKeys/K"`})
	}
	return ps
}

// Inspect says what keeps the file of credentials from being used; path finds it from where the
// config is.
func (a Access) Inspect(path func(string) string) error { return a.reach(path).Inspect() }

func (a Access) reach(path func(string) string) gcp.Access {
	r := gcp.Access{Emulator: "STORAGE_EMULATOR_HOST", Field: "gcs.credentials_path", Endpoint: a.Endpoint}
	if a.CredentialsPath != "" {
		r.Credentials = path(a.CredentialsPath)
	}
	return r
}
