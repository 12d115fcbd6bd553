/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What came of it: a few lines, or JSON; and what went wrong. Not for measuring.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "perf.h"

struct summary {
	struct hist *hist;
	uint64_t ios, errors;
	double iops, mib, us_per_tick;
};

static const struct {
	const char *name, *key;
	double share;
} points[] = {
	{ "p50", "p50_us", 0.5 },
	{ "p99", "p99_us", 0.99 },
	{ "p99.9", "p99_9_us", 0.999 },
};

static double
us(const struct summary *s, uint64_t ticks)
{
	return (double)ticks * s->us_per_tick;
}

static double
mean_us(const struct summary *s)
{
	return s->hist->n ? us(s, s->hist->sum) / (double)s->hist->n : 0;
}

static const char *
mode_name(const struct perf *p)
{
	return belfry_mode_of(p->h) == BELFRY_IOMMUFD ? "iommufd" : "legacy";
}

static void
print_text(const struct perf *p, const struct summary *s)
{
	printf("%s %u bytes, %u queue%s of %u, %s, %s: %.2f s\n", p->o.rw,
	       p->o.bs, p->o.queues, p->o.queues > 1 ? "s" : "", p->o.qd,
	       mode_name(p), p->o.irq ? "interrupts" : "polling", p->seconds);
	printf("  IOPS    %.0f (%.1f MiB/s)\n", s->iops, s->mib);
	printf("  latency mean %.2f", mean_us(s));
	for (size_t i = 0; i < ARRAY_SIZE(points); i++)
		printf(", %s %.2f", points[i].name,
		       us(s, hist_percentile(s->hist, points[i].share)));
	printf(", max %.2f us\n", us(s, s->hist->max));
	printf("  CPU     client %.0f %%", p->cpu_pct);
	if (p->target_cpu_pct >= 0)
		printf(", target %.0f %%", p->target_cpu_pct);
	printf("\n");
	if (!p->o.verify)
		return;
	printf("  verify  %" PRIu64 " pieces of %u bytes checked", p->checked,
	       p->o.bs);
	if (p->o.write_pct)
		printf(", %" PRIu64 " written", p->written);
	printf("; %s\n", s->errors ? "not all is well" : "no wrong byte");
}

static void
print_json_string(const char *s)
{
	putchar('"');
	for (; *s; s++)
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else
			putchar(*s);
	putchar('"');
}

static void
print_json(const struct perf *p, const struct summary *s, int code)
{
	printf("{\"rw\":\"%s\",\"bs\":%u,\"qd\":%u,\"queues\":%u,", p->o.rw,
	       p->o.bs, p->o.qd, p->o.queues);
	printf("\"mode\":\"%s\",\"irq\":%s,\"shadow\":%s,", mode_name(p),
	       p->o.irq ? "true" : "false", p->o.shadow ? "true" : "false");
	printf("\"model\":");
	print_json_string(p->info.model);
	printf(",\"seconds\":%.3f,\"ios\":%" PRIu64 ",\"iops\":%.1f,"
	       "\"mib_s\":%.2f,\"mean_us\":%.3f,",
	       p->seconds, s->ios, s->iops, s->mib, mean_us(s));
	for (size_t i = 0; i < ARRAY_SIZE(points); i++)
		printf("\"%s\":%.3f,", points[i].key,
		       us(s, hist_percentile(s->hist, points[i].share)));
	printf("\"max_us\":%.3f,\"cpu_pct\":%.1f,", us(s, s->hist->max),
	       p->cpu_pct);
	if (p->target_cpu_pct >= 0)
		printf("\"target_cpu_pct\":%.1f,", p->target_cpu_pct);
	if (p->o.verify)
		printf("\"written\":%" PRIu64 ",\"checked\":%" PRIu64 ",",
		       p->written, p->checked);
	printf("\"errors\":%" PRIu64 ",\"exit\":%d}\n", s->errors, code);
}

static int
say_mismatch(const struct perf *p, const struct job *j)
{
	const struct mismatch *m = &j->mismatch;

	fprintf(stderr,
		"belfry-perf: wrong data: lba %" PRIu64
		", offset %u (byte %" PRIu64
		" of the namespace): 0x%02x instead of 0x%02x; %s",
		m->lba, m->offset, m->lba * p->ns.block_len + m->offset, m->got,
		m->want, m->what);
	if (m->other)
		fprintf(stderr, ", lba %" PRIu64, m->other);
	fputc('\n', stderr);
	return EXIT_MISMATCH;
}

static int
say_fault(const struct perf *p, const struct job *j)
{
	unsigned id = belfry_qpair_id(j->q);

	switch (j->fault) {
	case JOB_GOOD:
		return EXIT_OK;
	case JOB_MISMATCH:
		return say_mismatch(p, j);
	case JOB_STATUS:
		fprintf(stderr,
			"belfry-perf: queue %u: %s of %u blocks at lba %" PRIu64
			" failed: %s (status 0x%x)\n",
			id, j->fault_write ? "write" : "read", j->nlb,
			j->fault_lba, belfry_status_str(j->err),
			(unsigned)j->err);
		break;
	case JOB_PROTOCOL:
		fprintf(stderr,
			"belfry-perf: queue %u: a completion for command 0x%x, which was not sent\n",
			id, (unsigned)j->err);
		break;
	case JOB_DOORBELL:
		fprintf(stderr, "belfry-perf: queue %u: doorbell: %s\n", id,
			strerror(-j->err));
		break;
	case JOB_STUCK:
		fprintf(stderr,
			"belfry-perf: queue %u: %d commands without an answer %d s after the end\n",
			id, j->err, GRACE_S);
		break;
	}
	return EXIT_FAILED;
}

/* Figures of nothing are none; whoever asked for them must notice. */
static int
say_nothing(const struct perf *p)
{
	unsigned late = 0;
	double wait = 0;

	for (unsigned i = 0; i < p->nworkers; i++) {
		late += p->workers[i].late;
		wait = MAX(wait, p->workers[i].core_wait_s);
	}
	if (late && p->seconds > 0)
		fprintf(stderr,
			"belfry-perf: no command was completed in %.2f s, %u were answered after that: does the server's core have other work? Here a thread waited %.2f s for its own\n",
			p->seconds, late, wait);
	else if (p->seconds > 0)
		fprintf(stderr,
			"belfry-perf: no command was completed in %.2f s; a longer --time, or a higher --rate?\n",
			p->seconds);
	else
		fprintf(stderr,
			"belfry-perf: stopped before the measuring began\n");
	return EXIT_FAILED;
}

/* Wrong data is the gravest. */
static int
say_faults(const struct perf *p)
{
	int code = EXIT_OK;

	if (p->server_gone) {
		fprintf(stderr,
			"belfry-perf: the server closed the connection\n");
		return EXIT_FAILED;
	}
	for (unsigned i = 0; i < p->o.queues; i++) {
		int worse = say_fault(p, &p->jobs[i]);

		code = MAX(code, worse);
	}
	return code;
}

int
report(const struct perf *p)
{
	struct summary s = { .us_per_tick = 1e6 / p->hz };
	int code = say_faults(p);

	s.hist = calloc(1, sizeof(*s.hist));
	if (!s.hist)
		return EXIT_FAILED;
	for (unsigned i = 0; i < p->o.queues; i++) {
		hist_merge(s.hist, &p->jobs[i].hist);
		s.ios += p->jobs[i].recorded;
		s.errors +=
			p->jobs[i].errors + (p->jobs[i].fault == JOB_MISMATCH);
	}
	if (!s.ios && !code)
		code = say_nothing(p);
	if (p->seconds > 0)
		s.iops = (double)s.ios / p->seconds;
	s.mib = s.iops * p->o.bs / (1 << 20);
	if (p->o.json)
		print_json(p, &s, code);
	else if (s.ios)
		print_text(p, &s);
	free(s.hist);
	if (fflush(stdout) || ferror(stdout)) {
		perror("belfry-perf: stdout");
		code = MAX(code, EXIT_FAILED);
	}
	return code;
}
