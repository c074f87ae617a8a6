package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// serveAgent is the SSH agent that litewitness takes its key from: it prints the key's fingerprint and serves.
func serveAgent(socket, seed string) error {
	bytes, err := hex.DecodeString(seed)
	if err != nil {
		return err
	}
	key := ed25519.NewKeyFromSeed(bytes)
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		return err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println(ssh.FingerprintSHA256(public))
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go agent.ServeAgent(keys, connection)
	}
}
