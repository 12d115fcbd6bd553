/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfry-perf: set up, run the passes, watch, report. Not for the load itself.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "perf.h"

#define LOOK_MS 100

static volatile sig_atomic_t interrupted;

static void
on_signal(int sig)
{
	interrupted = 1;
}

static double
own_cpu(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
	       (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

/* CPU seconds of the process behind the socket; < 0: not to be known. */
static double
target_cpu(const struct perf *p)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	unsigned long user, sys;
	char path[64], line[1024];
	const char *after;
	FILE *f;
	size_t n;

	if (getsockopt(belfry_socket(p->h), SOL_SOCKET, SO_PEERCRED, &cred,
		       &len) ||
	    cred.pid <= 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)cred.pid);
	f = fopen(path, "r");
	if (!f)
		return -1;
	n = fread(line, 1, sizeof(line) - 1, f);
	fclose(f);
	line[n] = 0;
	after = strrchr(line, ')');
	if (!after ||
	    sscanf(after,
		   ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
		   &user, &sys) != 2)
		return -1;
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t
ios_done(const struct perf *p)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < p->o.queues; i++)
		n += atomic_load_explicit(&p->jobs[i].done,
					  memory_order_relaxed);
	return n;
}

static bool
all_finished(const struct perf *p)
{
	for (unsigned i = 0; i < p->nworkers; i++)
		if (!p->workers[i].finished)
			return false;
	return true;
}

static void
progress(const struct perf *p, const char *what, double elapsed, double iops)
{
	fprintf(stderr, "\r%s %3.0f s  %9.0f IOPS  %8.1f MiB/s ", what, elapsed,
		iops, iops * p->o.bs / (1 << 20));
	fflush(stderr);
}

/* While the workers run: progress on a terminal, a server that goes, Ctrl-C. CPU is read as the measuring begins and ends. */
static void
watch(struct perf *p, const char *what, bool measured)
{
	struct pollfd f = { .fd = belfry_socket(p->h), .events = POLLRDHUP };
	bool tty = isatty(STDERR_FILENO), warm = false;
	uint64_t start = util_now_ns(), shown = start, ios = ios_done(p);
	uint64_t warm_at = start + (uint64_t)(p->o.warmup_s * 1e9);
	double own = 0, target = -1;

	while (!all_finished(p)) {
		uint64_t now;

		if (poll(&f, 1, LOOK_MS) > 0 && !p->server_gone) {
			p->server_gone = true;
			p->stop = true;
			f.fd = -1;
		}
		if (interrupted)
			p->stop = true;
		now = util_now_ns();
		if (measured && !warm && now >= warm_at) {
			warm = true;
			warm_at = now;
			own = own_cpu();
			target = target_cpu(p);
		}
		if (tty && now - shown >= 500000000) {
			uint64_t n = ios_done(p);

			progress(p, what, (double)(now - start) * 1e-9,
				 (double)(n - ios) * 1e9 /
					 (double)(now - shown));
			shown = now;
			ios = n;
		}
	}
	if (tty)
		fputs("\r\033[K", stderr);
	if (measured && warm) {
		double s = (double)(util_now_ns() - warm_at) * 1e-9;
		double t = target_cpu(p);

		p->cpu_pct = (own_cpu() - own) / s * 100;
		if (target >= 0 && t >= 0)
			p->target_cpu_pct = (t - target) / s * 100;
	}
}

static int
run_pass(struct perf *p, bool readback)
{
	uint64_t now = tick();
	double warm = readback ? 0 : p->o.warmup_s;
	struct phases ph = {
		.start = now,
		.warm = now + (uint64_t)(warm * p->hz),
		.end = now + (uint64_t)((warm + p->o.time_s) * p->hz),
		.last = now +
			(uint64_t)((warm + p->o.time_s + GRACE_S) * p->hz),
	};
	unsigned n = 0;
	int err = 0;

	if (readback) /* all of it, however long that takes */
		ph.end = ph.last = UINT64_MAX;
	for (; !err && n < p->nworkers; n++) {
		p->workers[n].p = ph;
		p->workers[n].readback = readback;
		p->workers[n].finished = false;
		err = pthread_create(&p->workers[n].thread, NULL, worker_main,
				     &p->workers[n]);
	}
	if (err) {
		fprintf(stderr, "belfry-perf: thread: %s\n", strerror(err));
		p->stop = true;
		n--;
	} else {
		watch(p, readback ? "read back" : p->o.rw, !readback);
	}
	while (n--)
		pthread_join(p->workers[n].thread, NULL);
	if (!readback) {
		uint64_t end = tick();

		end = MIN(end, ph.end);
		if (end > ph.warm)
			p->seconds = (double)(end - ph.warm) / p->hz;
	}
	return err ? EXIT_FAILED : EXIT_OK;
}

static bool
faultless(const struct perf *p)
{
	for (unsigned i = 0; i < p->o.queues; i++)
		if (p->jobs[i].fault)
			return false;
	return true;
}

static int
run(struct perf *p)
{
	int code = run_pass(p, false), said;

	if (!code && p->o.verify && p->o.write_pct && !p->server_gone &&
	    !interrupted && faultless(p))
		code = run_pass(p, true);
	for (unsigned i = 0; p->o.verify && i < p->o.queues; i++)
		verify_counts(&p->jobs[i], &p->written, &p->checked);
	said = report(p); /* MAX would call it twice */
	return MAX(code, said);
}

int
main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct perf *p = calloc(1, sizeof(*p));
	int code;

	if (!p) {
		perror("belfry-perf");
		return EXIT_FAILED;
	}
	p->target_cpu_pct = -1;
	code = options_parse(argc, argv, &p->o);
	if (code) {
		free(p);
		return code - 1;
	}
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	code = perf_setup(p);
	if (!code)
		code = run(p);
	perf_teardown(p);
	free(p);
	return code;
}
