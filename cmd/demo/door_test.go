package main

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

func TestShutDoorEndsConnectionsAndRefusesNewOnesUntilItOpens(t *testing.T) {
	d, err := newDoor("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		for {
			conn, err := d.Accept()
			if err != nil {
				ended <- err
				return
			}
			go func() { // an echo
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	for range 2 {
		conn, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		letter := []byte{1}
		if _, err := conn.Write(letter); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, letter); err != nil {
			t.Fatalf("no echo through an open door: %v", err)
		}
		d.stop()
		if _, err := conn.Read(letter); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("a connection outlived the door")
		}
		_ = conn.Close()
		if conn, err := net.Dial("tcp", d.Addr().String()); err == nil {
			_ = conn.Close()
			t.Error("a shut door accepts")
		}
		if err := d.start(); err != nil {
			t.Fatal(err)
		}
	}
	d.stop()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
}
