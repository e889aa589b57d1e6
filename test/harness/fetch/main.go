// Command fetch downloads the servers that the tests run on, so that the tests themselves download nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/outrider-relay/outrider/test/harness"
)

func main() {
	majors := flag.String("postgres", strconv.Itoa(harness.NewestPostgres), "majors of PostgreSQL, with commas between them")
	versions := flag.String("kafka", harness.Kafka4, "versions of Apache Kafka, with commas between them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := fetch(ctx, list(*majors), list(*versions)); err != nil {
		fmt.Fprintln(os.Stderr, "fetch:", err)
		os.Exit(1)
	}
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func fetch(ctx context.Context, majors, versions []string) error {
	for _, m := range majors {
		major, err := strconv.Atoi(m)
		if err != nil {
			return fmt.Errorf("PostgreSQL %q is no major version", m)
		}
		if err := harness.FetchPostgres(major); err != nil {
			return err
		}
		fmt.Printf("PostgreSQL %d is here\n", major)
	}
	for _, v := range versions {
		if err := harness.FetchKafka(ctx, v); err != nil {
			return err
		}
		fmt.Printf("Apache Kafka %s is here\n", v)
	}
	return nil
}
