// Interop puts a log that Assent wrote before programs that others wrote. One word says what to do; what it needs comes
// as JSON on standard input, what it found goes as JSON to standard output. It exits with 1, and says why, where a log
// or a note is refused as a whole.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("say one of: fsck, published, verdicts, proofs, agent"))
	}
	switch os.Args[1] {
	case "fsck":
		answer(checkLog(os.Args[2], os.Args[3]))
	case "published":
		answer(published(), nil)
	case "verdicts":
		answer(verdicts(input[questions]()))
	case "proofs":
		answer(proofs(input[proofQuestions]()))
	case "agent":
		fail(serveAgent(os.Args[2], os.Args[3]))
	default:
		fail(fmt.Errorf("unknown: %s", os.Args[1]))
	}
}

func input[T any]() T {
	var value T
	if err := json.NewDecoder(os.Stdin).Decode(&value); err != nil {
		fail(err)
	}
	return value
}

func answer(value any, err error) {
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
