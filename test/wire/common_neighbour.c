/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The neighbour: reads one after the other, and how long it had to wait for the next one at most.
 *
 * The tests run on machines that others use. So what its own thread and the daemon's waited for a processor does not count:
 * only what the daemon did or did not do. A reactor that blocks sleeps, and does not wait for one.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#include "common_vm.h"

/* A thread's third is the number of its turns; the second, what it waited for them in ns. */
static uint64_t
run_delay(int fd)
{
	unsigned long long ran, waited;
	char text[80];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	text[len > 0 ? len : 0] = '\0';
	return sscanf(text, "%llu %llu", &ran, &waited) == 2 ? waited : 0;
}

/* Of all threads that a command meets. */
static uint64_t
run_delays(const struct neighbour *n)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < n->nwaits; i++)
		sum += run_delay(n->waits[i]);
	return sum;
}

static void
waits_add(struct neighbour *n, const char *task)
{
	char path[320];
	int fd;

	snprintf(path, sizeof(path), "%s/schedstat", task);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && n->nwaits < NEIGHBOUR_WAITS)
		n->waits[n->nwaits++] = fd;
	else if (fd >= 0)
		close(fd);
}

/* The reactors and the watchdog; what workers do, nobody shall wait for. */
static bool
in_the_way(const char *task)
{
	char path[320], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/comm", task);
	f = fopen(path, "re");
	if (f && !fgets(name, sizeof(name), f))
		name[0] = '\0';
	if (f)
		fclose(f);
	return !strncmp(name, "reactor", 7) || !strncmp(name, "belfryd", 7) ||
	       !strncmp(name, "irq_watchdog", 12);
}

static void
waits_open(struct neighbour *n)
{
	char dir[32], task[300];
	struct dirent *e;
	DIR *tasks;

	waits_add(n, "/proc/thread-self");
	snprintf(dir, sizeof(dir), "/proc/%d/task", d.pid);
	tasks = opendir(dir);
	while (tasks && (e = readdir(tasks))) {
		snprintf(task, sizeof(task), "%s/%s", dir, e->d_name);
		if (e->d_name[0] != '.' && in_the_way(task))
			waits_add(n, task);
	}
	if (tasks)
		closedir(tasks);
}

static void *
neighbour_run(void *arg)
{
	struct neighbour *n = arg;
	uint64_t last, now, waited, before, waited_us, gap, lba = 0;

	waits_open(n);
	before = run_delays(n);
	last = now_us();
	while (!__atomic_load_n(&n->stop, __ATOMIC_RELAXED)) {
		if (vm_io(&n->vm, OPC_READ, lba, 8, n->vm.a[A_DATA].iova, 0)) {
			__atomic_store_n(&n->failed, true, __ATOMIC_RELAXED);
			break;
		}
		now = now_us();
		waited = run_delays(n);
		gap = now - last;
		waited_us = (waited - before) / 1000;
		gap -= waited_us < gap ? waited_us : gap;
		if (gap > __atomic_load_n(&n->max_gap_us, __ATOMIC_RELAXED))
			__atomic_store_n(&n->max_gap_us, gap, __ATOMIC_RELAXED);
		last = now;
		before = waited;
		lba = (lba + 8) % 1024;
		__atomic_fetch_add(&n->count, 1, __ATOMIC_RELAXED);
	}
	while (n->nwaits)
		close(n->waits[--n->nwaits]);
	return NULL;
}

void
neighbour_start(struct neighbour *n, const char *where)
{
	memset(n, 0, sizeof(*n));
	vm_start(&n->vm, where, false);
	assert_int_equal(pthread_create(&n->thread, NULL, neighbour_run, n), 0);
	n->running = true;
	usleep(20000);
	neighbour_gap_us(n);
}

uint64_t
neighbour_gap_us(struct neighbour *n)
{
	return __atomic_exchange_n(&n->max_gap_us, 0, __ATOMIC_RELAXED);
}

bool
neighbour_is_calm(struct neighbour *n, const char *what, unsigned most_us)
{
	uint64_t gap = neighbour_gap_us(n);
	bool calm = gap < most_us || daemon_is_sanitized();

	print_message("%s: neighbour's largest gap %llu us\n", what,
		      (unsigned long long)gap);
	if (!calm)
		n->most_us = most_us;
	return calm;
}

void
neighbour_suffers(struct neighbour *n)
{
	uint64_t gap;
	unsigned i;

	for (i = 0; i < NEIGHBOUR_TRIES; i++) {
		neighbour_gap_us(n);
		usleep(300000);
		gap = neighbour_gap_us(n);
		print_message("alone: largest gap %llu us\n",
			      (unsigned long long)gap);
		if (gap < n->most_us / 2)
			fail_msg("it is calm alone, and not beside that");
	}
	print_message("skipped: the machine is too busy to tell\n");
	skip();
}

void
neighbour_stop(struct neighbour *n)
{
	if (!n->running)
		return;
	n->running = false;
	__atomic_store_n(&n->stop, true, __ATOMIC_RELAXED);
	pthread_join(n->thread, NULL);
	assert_false(n->failed);
	assert_true(n->count > 0);
	vm_kill(&n->vm);
}
