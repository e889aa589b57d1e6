package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// folder makes a temporary folder below base. A test that is killed cannot remove its folders, and a server's is large: they
// stay locked while their process lives, so the next one sees which are left over, and removes them.
func folder(base, name string) (string, error) {
	prefix := "outrider-test-" + name + "-"
	removeLeftOver(base, prefix)
	dir, err := os.MkdirTemp(base, prefix)
	if err != nil {
		return "", err
	}
	if _, err := lockFolder(dir); err != nil {
		return "", fmt.Errorf("lock %s: %w", dir, err)
	}
	return dir, nil
}

// lockFolder locks a folder, unless another process has it locked. The lock ends with us, or when fd is closed.
func lockFolder(dir string) (fd int, err error) {
	fd, err = syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// removeLeftOver removes the folders that nobody has locked, as far as we may.
func removeLeftOver(base, prefix string) {
	// A folder is made before it is locked.
	const settled = time.Minute
	dirs, _ := filepath.Glob(filepath.Join(base, prefix+"*")) // the pattern is well formed
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || time.Since(info.ModTime()) < settled {
			continue
		}
		fd, err := lockFolder(dir)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir)
		_ = syscall.Close(fd)
	}
}
