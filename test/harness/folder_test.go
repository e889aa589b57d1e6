package harness

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestFolderIsRemovedOnceItsProcessIsGone(t *testing.T) {
	base := t.TempDir()
	newFolder := func() string {
		t.Helper()
		dir, err := folder(base, "x")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	made := newFolder()
	fresh, err := os.MkdirTemp(base, "outrider-test-x-") // not locked yet
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.MkdirTemp(base, "outrider-test-x-")
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{made, left} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		newFolder()
		for _, dir := range []string{made, fresh} {
			if _, err := os.Stat(dir); err != nil {
				t.Errorf("a folder in use: %v", err)
			}
		}
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a folder that was left over: %v", err)
		}
	}
	if _, err := lockFolder(made); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("lock a locked folder: %v", err)
	}
}
