/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What sleeping costs on this machine, whoever sleeps: the floor under an idle target. Virtual machines
 * pay for each timer and each wake-up. Not a benchmark of Belfry.
 *
 *   sleeper nap US MS    does nothing but sleep for US at a time, as exactly as a reactor: its share of a core, in percent
 *   sleeper wake COUNT   after 20 ms of rest a socket's message wakes a thread on another core: until that
 *                        runs, and until its answer is there; median and maximum of each, microseconds
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

#define REST_NS 20000000
#define SLACK_NS 1000ul /* as reactor/loop.c */
#define MSG_LEN 36	/* a doorbell's write, by message */

static uint64_t
thread_ns(void)
{
	unsigned long long ns;
	FILE *f = fopen("/proc/thread-self/schedstat", "re");

	must(f && fscanf(f, "%llu", &ns) == 1, "no schedstat");
	fclose(f);
	return ns;
}

static int
watching(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(EPOLL_CLOEXEC);

	must(ep >= 0 && !epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll");
	return ep;
}

static void
nap(const unsigned *cores, unsigned us, unsigned ms)
{
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };
	uint64_t begin, used;
	struct epoll_event ev;
	int pair[2], ep;

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair),
	     "socketpair");
	ep = watching(pair[0]);
	pin(cores[0]);
	prctl(PR_SET_TIMERSLACK, SLACK_NS, 0, 0, 0);
	begin = util_now_ns();
	used = thread_ns();
	while (util_now_ns() - begin < ms * 1000000ull)
		must(epoll_pwait2(ep, &ev, 1, &ts, NULL) == 0, "epoll_pwait2");
	used = thread_ns() - used;
	printf("%.3f\n", 100 * (double)used / (double)(util_now_ns() - begin));
}

struct peer {
	unsigned core;
	int fd;
	_Atomic uint64_t woken; /* when; 0: not yet */
};

static void *
answer(void *arg)
{
	struct peer *p = arg;
	struct epoll_event ev;
	char msg[MSG_LEN];
	int ep = watching(p->fd);

	pin(p->core);
	for (;;) {
		must(epoll_wait(ep, &ev, 1, -1) == 1, "epoll_wait");
		atomic_store(&p->woken, util_now_ns());
		if (read(p->fd, msg, sizeof(msg)) != sizeof(msg))
			break;
		must(write(p->fd, msg, 16) == 16, "write");
	}
	close(ep);
	return NULL;
}

static int
by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
show(double *us, unsigned n)
{
	qsort(us, n, sizeof(*us), by_value);
	printf("%.1f %.1f\n", us[n / 2], us[n - 1]);
}

static void
wake(const unsigned *cores, unsigned n)
{
	double *there = calloc(n, sizeof(*there)),
	       *back = calloc(n, sizeof(*back));
	struct timespec rest = { 0, REST_NS };
	struct peer p = { .core = cores[0] };
	char msg[MSG_LEN] = "";
	pthread_t thread;
	int pair[2];

	must(there && back, "no memory");
	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair),
	     "socketpair");
	p.fd = pair[1];
	must(!pthread_create(&thread, NULL, answer, &p), "no thread");
	pin(cores[1]);
	for (unsigned i = 0; i < n; i++) {
		uint64_t begin;

		nanosleep(&rest, NULL);
		begin = util_now_ns();
		must(write(pair[0], msg, sizeof(msg)) == sizeof(msg), "write");
		must(read(pair[0], msg, 16) == 16, "read");
		back[i] = (double)(util_now_ns() - begin) / 1e3;
		there[i] = (double)(atomic_load(&p.woken) - begin) / 1e3;
	}
	close(pair[0]);
	pthread_join(thread, NULL);
	close(pair[1]);
	show(there, n);
	show(back, n);
}

int
main(int argc, char **argv)
{
	unsigned cores[2];
	cpu_set_t mine;

	must(!sched_getaffinity(0, sizeof(mine), &mine), "no cores");
	must(CPU_COUNT(&mine) >= 2, "two cores are needed");
	for (unsigned i = 0, c = 0; c < 2; i++)
		if (CPU_ISSET(i, &mine))
			cores[c++] = i;
	if (argc == 4 && !strcmp(argv[1], "nap"))
		nap(cores, number(argv[2]), number(argv[3]));
	else if (argc == 3 && !strcmp(argv[1], "wake"))
		wake(cores, MAX(number(argv[2]), 1));
	else
		must(false, "sleeper nap US MS | wake COUNT");
	return 0;
}
