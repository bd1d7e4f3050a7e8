module github.com/fusebox-go/fusebox/examples/fleet

go 1.26.0

replace (
	github.com/fusebox-go/fusebox => ../..
	github.com/fusebox-go/fusebox/fleet/fleetredis => ../../fleet/fleetredis
)

require (
	github.com/fusebox-go/fusebox v0.0.0-00010101000000-000000000000
	github.com/fusebox-go/fusebox/fleet/fleetredis v0.0.0-00010101000000-000000000000
	github.com/redis/go-redis/v9 v9.23.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
