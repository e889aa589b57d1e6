package failpoint

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// Plant names the bug that the process is to have. Empty: none.
const Plant = "FAILPOINT_PLANT"

// Plants are the bugs that the relay can be made to have: what breaks each of its promises in the least conspicuous way, so that
// whoever checks the promises can be seen to notice.
var Plants = []string{
	"what was received is confirmed",
	"a transaction's commit LSN is taken for its end",
	"a queue goes on after a failure",
	"no fence",
	"the answer to EndTxn is taken for the barrier",
	"positions carry the session's timeline",
	"a save without the generation",
	"a dead letter leaves its queue before its ack",
}

var plant = sync.OnceValues(readPlant)

func readPlant() (string, error) {
	name := os.Getenv(Plant)
	if name != "" && !slices.Contains(Plants, name) {
		return "", fmt.Errorf("%s=%s: there is no such bug", Plant, name)
	}
	return name, nil
}

// Planted says whether the process is to have the bug of that name.
func Planted(name string) bool { return must(plant()) == name }
