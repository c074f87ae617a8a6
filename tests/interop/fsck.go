package main

import (
	"context"
	"fmt"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
)

// Its workers stop at the first fault and the sender of their work then waits for ever, so the time is ours to bound.
const longest = 60 * time.Second

// checkLog runs Tessera's fsck over a folder that holds `checkpoint` and `tile/`.
func checkLog(folder, vkey string) (string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return "", err
	}
	check := fsck.New(verifier.Name(), verifier, client.FileFetcher{Root: folder}, leafHashes, fsck.Opts{N: 2})
	done := make(chan error, 1)
	go func() { done <- check.Check(context.Background()) }()
	select {
	case err := <-done:
		return "sound", err
	case <-time.After(longest):
		return "", fmt.Errorf("fsck did not end within %s", longest)
	}
}

func leafHashes(content []byte) ([][]byte, error) {
	bundle := &api.EntryBundle{}
	if err := bundle.UnmarshalText(content); err != nil {
		return nil, err
	}
	hashes := make([][]byte, 0, len(bundle.Entries))
	for _, entry := range bundle.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}
