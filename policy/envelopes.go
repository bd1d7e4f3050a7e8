package policy

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// wholeAnswer is how long an answer can be for its error to be seen: those that have nothing but an error to tell are
// short.
const wholeAnswer = 64 << 10

// JSONRPC returns a classifier for JSON-RPC over HTTP. An answer whose error has the code -32603, internal error, or
// one of codes is a Failure; of a batch, if all its answers are. No others are: -32700 to -32600 speak of the request,
// and what -32000 to -32099 say every server defines for itself, so codes is for those that mean trouble at the one you
// call. Answers of more than 64 KiB are taken for good.
func JSONRPC(codes ...int) Classifier {
	codes = append([]int{-32603}, codes...)
	return atEndOfAnswer(func(c *Call, body []byte) Outcome {
		type answer struct{ Error *struct{ Code int } }
		var answers []answer
		if body = bytes.TrimSpace(body); !bytes.HasPrefix(body, []byte("[")) {
			body = slices.Concat([]byte("["), body, []byte("]"))
		}
		if json.Unmarshal(body, &answers) != nil || len(answers) == 0 {
			return Undecided
		}
		for _, a := range answers {
			if a.Error == nil || !slices.Contains(codes, a.Error.Code) {
				return Undecided
			}
		}
		c.Reason = "json-rpc code " + strconv.Itoa(answers[0].Error.Code)
		return Failure
	})
}

// GraphQL returns a classifier for GraphQL over HTTP. An answer without data, with an error whose extensions.code is
// INTERNAL_SERVER_ERROR or one of codes, is a Failure. One that has data in part is not, nor are errors without a code:
// by these alone nobody can tell a database that is down from a query with a typing error. Answers of more than 64 KiB
// are taken for good.
func GraphQL(codes ...string) Classifier {
	codes = append([]string{"INTERNAL_SERVER_ERROR"}, codes...)
	return atEndOfAnswer(func(c *Call, body []byte) Outcome {
		var answer struct {
			Data   json.RawMessage
			Errors []struct{ Extensions struct{ Code any } }
		}
		if json.Unmarshal(body, &answer) != nil || len(answer.Data) > 0 && string(answer.Data) != "null" {
			return Undecided
		}
		for _, e := range answer.Errors {
			if code, ok := e.Extensions.Code.(string); ok && slices.Contains(codes, code) {
				c.Reason = "graphql code " + code
				return Failure
			}
		}
		return Undecided
	})
}

var itemStatus = regexp.MustCompile(`"status"\s*:\s*(\d)(\d\d)\b`)

// ElasticBulk returns a classifier for the _bulk requests of Elasticsearch and OpenSearch, which answer 200 whatever
// became of their items. A Failure is an answer of whose items (the last of them, within 64 KiB) none was done or
// turned down for a reason of its own: each has a status of 5xx, or 429, and not all have 429, which is no failure by
// itself by default.
func ElasticBulk() Classifier {
	judge := AtEnd(wholeAnswer, func(c *Call) Outcome {
		view := c.Tail
		if body, ok := wholeBody(c); ok {
			view = body
		}
		failed := false
		for _, status := range itemStatus.FindAllSubmatch(view, -1) {
			switch {
			case status[1][0] == '5':
				failed = true
				c.Reason = "item status 5" + string(status[2])
			case string(status[1]) != "4" || string(status[2]) != "29":
				return Undecided
			}
		}
		if failed {
			return Failure
		}
		return Undecided
	})
	return func(c *Call) Outcome {
		if c.Err != nil || c.Response == nil || c.Response.StatusCode != http.StatusOK ||
			c.Request == nil || c.Request.URL == nil || !strings.HasSuffix(c.Request.URL.Path, "/_bulk") {
			return Undecided
		}
		return judge(c)
	}
}

// S3 returns a classifier for S3 and what speaks as it does: the answers to CompleteMultipartUpload, CopyObject and
// UploadPartCopy begin with a 200 before the work is done, and can turn out to be an error. InternalError,
// ServiceUnavailable and SlowDown, which are 5xx elsewhere, are a Failure.
func S3() Classifier {
	judge := atEndOfAnswer(func(c *Call, body []byte) Outcome {
		var answer struct {
			XMLName xml.Name
			Code    string
		}
		if xml.Unmarshal(body, &answer) != nil || answer.XMLName.Local != "Error" {
			return Undecided
		}
		switch answer.Code {
		case "InternalError", "ServiceUnavailable", "SlowDown":
			c.Reason = "s3 code " + answer.Code
			return Failure
		}
		return Undecided
	})
	return func(c *Call) Outcome {
		// What a GET gets is somebody's object, which can be a text about an error.
		if c.Request == nil || c.Request.Method != http.MethodPut && c.Request.Method != http.MethodPost {
			return Undecided
		}
		return judge(c)
	}
}

// atEndOfAnswer has judge look at the whole body of a response that is no error by its status.
func atEndOfAnswer(judge func(c *Call, body []byte) Outcome) Classifier {
	atEnd := AtEnd(wholeAnswer, func(c *Call) Outcome {
		if body, ok := wholeBody(c); ok {
			return judge(c, body)
		}
		return Undecided
	})
	return func(c *Call) Outcome {
		if c.Response == nil || c.Response.StatusCode >= 300 || c.Err != nil {
			return Undecided
		}
		return atEnd(c)
	}
}
