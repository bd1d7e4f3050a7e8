// Hello calls a server that is out of order until Fusebox refuses a call.
//
//	go run ./examples/hello
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/fusebox-go/fusebox/transport"
)

func main() { hello(os.Stdout) }

func hello(out io.Writer) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer server.Close()

	client := &http.Client{Transport: transport.New(nil)}
	for refused := false; !refused; {
		resp, err := client.Get(server.URL)
		if err != nil {
			fmt.Fprintln(out, err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		refused = transport.Refused(resp)
		fmt.Fprintf(out, "%s: %s", resp.Status, body)
	}
}
