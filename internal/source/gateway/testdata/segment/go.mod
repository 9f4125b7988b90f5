// The official SDK is needed by this test only, and stays out of the product's go.mod.
module github.com/weirdata/weir/internal/source/gateway/testdata/segment

go 1.26.8

require gopkg.in/segmentio/analytics-go.v3 v3.1.0

require (
	github.com/segmentio/backo-go v1.1.0 // indirect
	github.com/xtgo/uuid v0.0.0-20140804021211-a0b114877d4c // indirect
)
