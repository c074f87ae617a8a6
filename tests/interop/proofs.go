package main

import (
	"filippo.io/torchwood"
	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type inclusion struct {
	Index, Size uint64
	Leaf, Root  []byte
	Proof       [][]byte
}

type consistency struct {
	Old, New         uint64
	OldRoot, NewRoot []byte
	Proof            [][]byte
}

type questions struct {
	Vkey, Checkpoint string
	Inclusion        []inclusion
	Consistency      []consistency
}

// verdict is what two libraries say; x/mod takes only hashes of 32 bytes.
type verdict struct {
	Merkle bool
	Mod    bool
}

type answers struct {
	Origin      string
	Size        uint64
	Root        []byte
	Inclusion   []verdict
	Consistency []verdict
}

// verdicts opens a checkpoint with x/mod's sumdb/note and asks both libraries about each proof.
func verdicts(asked questions) (*answers, error) {
	verifier, err := note.NewVerifier(asked.Vkey)
	if err != nil {
		return nil, err
	}
	if _, err := note.Open([]byte(asked.Checkpoint), note.VerifierList(verifier)); err != nil {
		return nil, err
	}
	checkpoint, _, _, err := log.ParseCheckpoint([]byte(asked.Checkpoint), verifier.Name(), verifier)
	if err != nil {
		return nil, err
	}
	found := &answers{Origin: checkpoint.Origin, Size: checkpoint.Size, Root: checkpoint.Hash}
	for _, one := range asked.Inclusion {
		found.Inclusion = append(found.Inclusion, included(one))
	}
	for _, one := range asked.Consistency {
		found.Consistency = append(found.Consistency, consistent(one))
	}
	return found, nil
}

func included(one inclusion) verdict {
	err := proof.VerifyInclusion(rfc6962.DefaultHasher, one.Index, one.Size, one.Leaf, one.Proof, one.Root)
	all, fit := hashes(append([][]byte{one.Leaf, one.Root}, one.Proof...))
	return verdict{err == nil, fit && tlog.CheckRecord(all[2:], int64(one.Size), all[1], int64(one.Index), all[0]) == nil}
}

func consistent(one consistency) verdict {
	err := proof.VerifyConsistency(rfc6962.DefaultHasher, one.Old, one.New, one.Proof, one.OldRoot, one.NewRoot)
	all, fit := hashes(append([][]byte{one.OldRoot, one.NewRoot}, one.Proof...))
	return verdict{err == nil, fit && tlog.CheckTree(all[2:], int64(one.New), all[1], int64(one.Old), all[0]) == nil}
}

func hashes(values [][]byte) ([]tlog.Hash, bool) {
	all := make([]tlog.Hash, len(values))
	for n, value := range values {
		if len(value) != tlog.HashSize {
			return nil, false
		}
		all[n] = tlog.Hash(value)
	}
	return all, true
}

// published gives the vectors that come with the Merkle library: eight entries, and the roots of their trees.
func published() map[string]any {
	return map[string]any{"entries": testonly.LeafInputs(), "roots": testonly.RootHashes(), "nodes": testonly.NodeHashes()}
}

type proofQuestions struct {
	Policy string
	Entry  []byte
	Proofs []string
}

// proofs asks torchwood about tlog-proofs of one entry; the empty text means that one holds.
func proofs(asked proofQuestions) ([]string, error) {
	policy, err := torchwood.ParsePolicy([]byte(asked.Policy))
	if err != nil {
		return nil, err
	}
	found := make([]string, len(asked.Proofs))
	for n, one := range asked.Proofs {
		if err := torchwood.VerifyProof(policy, tlog.RecordHash(asked.Entry), []byte(one)); err != nil {
			found[n] = err.Error()
		}
	}
	return found, nil
}
