package harness

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// enough is how long a test waits for what should happen soon.
const enough = 30 * time.Second

// servers is set in the environment of a test binary that starts servers to be killed.
const servers = "HARNESSTEST_SERVERS"

func TestMain(m *testing.M) {
	if os.Getenv(servers) != "" {
		serve()
	}
	os.Exit(m.Run())
}

// serve starts servers, prints their process ids, and stays.
func serve() {
	pg, err := StartPostgres(context.Background(), PostgresOptions{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	kafka, err := StartKafka(context.Background(), KafkaOptions{})
	if err != nil {
		fmt.Println(errors.Join(err, pg.Close()))
		os.Exit(1)
	}
	fmt.Println(pg.Dir, kafka.dir, pg.PID(), kafka.Nodes[0].PID())
	select {}
}

func TestServersEndWithAKilledTest(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), servers+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	test, err := start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pgDir, kafkaDir string
	var postgres, broker int
	if n, _ := fmt.Sscan(line, &pgDir, &kafkaDir, &postgres, &broker); n != 4 || err != nil {
		test.signal(syscall.SIGKILL)
		t.Fatalf("the servers did not start: %s (%v)", line, err)
	}
	t.Cleanup(func() { _ = errors.Join(os.RemoveAll(pgDir), os.RemoveAll(kafkaDir)) })
	pids := append(children(t, postgres), postgres, broker)
	if len(pids) < 5 {
		t.Errorf("Postgres has no children: %v", pids)
	}
	test.signal(syscall.SIGKILL)
	for _, pid := range pids {
		Eventually(t, enough, fmt.Sprintf("end of process %d", pid), func() error {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("it is there (%v)", err)
			}
			return nil
		})
	}
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, field := range strings.Fields(string(list)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child)
	}
	return pids
}

func TestPostgresComesBackWithItsDataWhateverEndedIt(t *testing.T) {
	for _, major := range []int{14, NewestPostgres} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			pg := NewPostgres(t, PostgresOptions{Major: major, Settings: map[string]string{"wal_sender_timeout": "5s"}})
			Exec(t, pg.Connect(t), "create table kept (how text)")
			for _, how := range []Shutdown{Fast, Immediate, Shutdown(syscall.SIGKILL)} {
				Exec(t, pg.Connect(t), "insert into kept values ($1)", syscall.Signal(how).String())
				pid := pg.PID()
				if _, err := pg.Stop(how, enough); err != nil {
					t.Fatal(err)
				}
				if err := pg.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				if pg.PID() == pid {
					t.Error("the server did not end")
				}
			}
			var version, timeout string
			var rows int
			err := pg.Connect(t).QueryRow(t.Context(), "select current_setting('server_version'), current_setting('wal_sender_timeout'), count(*) from kept").Scan(&version, &timeout, &rows)
			if err != nil || !strings.HasPrefix(version, strconv.Itoa(major)+".") || timeout != "5s" || rows != 3 {
				t.Errorf("version %s, wal_sender_timeout %s, %d rows, %v", version, timeout, rows, err)
			}
		})
	}
}

func TestKafkaComesBackWithItsRecordsAfterAKill(t *testing.T) {
	kafka := NewKafka(t, KafkaOptions{})
	kafka.CreateTopic(t, "kept", 2, 1, nil)
	node := kafka.Nodes[0]
	for round := range int32(2) {
		produce(t, kafka.Brokers(), &kgo.Record{Topic: "kept", Partition: round, Value: []byte("a value")})
		if round == 0 {
			node.Kill()
			if err := node.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if records := ReadAll(t, kafka.Brokers(), "kept"); len(records) != 2 {
		t.Errorf("%d records", len(records))
	}
	if err := node.Stop(); err != nil {
		t.Error(err)
	}
}

// produce writes a record to the partition that it names.
func produce(t *testing.T, brokers []string, r *kgo.Record) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}
