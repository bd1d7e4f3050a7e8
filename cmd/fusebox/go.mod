module github.com/fusebox-go/fusebox/cmd/fusebox

go 1.26.0

replace github.com/fusebox-go/fusebox => ../..

require github.com/fusebox-go/fusebox v0.0.0-00010101000000-000000000000

require github.com/klauspost/compress v1.20.4

require (
	github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)
