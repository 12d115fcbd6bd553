/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The whole target path, in this process: path OP BATCH COUNT [QUEUES]. OP is read or write,
 * of 4 KiB on a null device; batches of BATCH commands a queue, until COUNT commands are done.
 *
 * The fake guest is a poller of the same reactor, after the target's, so nothing is shared
 * between cores here: what it shows is the work, not the way between caches. Under callgrind,
 * with --toggle-collect=core_poll, only the target's instructions count; the difference of
 * two runs of N and 2N commands is free of what starting costs (bench_path.py does it).
 * Prints the nanoseconds of the reactor's loop without the guest's, and the rounds, per command.
 */
#include <unistd.h>

#include "belfry/log.h"
#include "bench.h"
#include "fake/guest.h"

#define DEPTH 256u
#define BLOCK 512u
#define PAGES 1024u /* data buffers, taken in a scattered order */

static struct guest g;
static iova_t data;
static uint32_t seed = 1;
static struct {
	uint8_t opcode;
	unsigned batch, queues, left;
	uint64_t done, count, rounds;
	uint64_t guest_ns; /* in drive() */
} run;

static void
bdev_done(struct bdev_ctl *c, int err)
{
	must(!err, c->error);
}

static void
setup(unsigned queues)
{
	struct guest_opts opts = { .bdev = "null0",
				   .io_queues = (uint16_t)queues };
	struct bdev_null_params p = { .name = "null0",
				      .block_len = BLOCK,
				      .num_blocks = 1ull << 31,
				      .phys_block_len = BLOCK };
	struct reactor_config cfg = { .cores = (unsigned[]){ 0 },
				      .ncores = 1,
				      .no_pin = true };
	static struct bdev_ctl ctl = { .done = bdev_done };

	log_set_level(LOG_ERROR);
	must(!reactors_init(&cfg) && !bdev_init() && !ioas_sigbus_init(),
	     "no reactor");
	must(!bdev_null_create(&p, &ctl), "no null device");
	guest_init(&g, &opts);
	must(guest_enable(&g, 32) == 1, "the controller is not ready");
	for (unsigned q = 1; q <= queues; q++)
		must(!guest_create_q(&g, (uint16_t)q, DEPTH, false),
		     "no queue");
	data = guest_alloc(&g, PAGES * (uint64_t)NVME_PAGE);
}

static void
submit(unsigned qid, uint8_t opcode, unsigned batch)
{
	for (unsigned i = 0; i < batch; i++) {
		iova_t page;

		seed = seed * 1664525 + 1013904223;
		page = data + (seed >> 8) % PAGES * NVME_PAGE;
		guest_put(&g, (uint16_t)qid,
			  guest_rw(&g, opcode, (uint64_t)(seed >> 4) * 8, 8,
				   page, NVME_PAGE));
	}
	guest_ring(&g, (uint16_t)qid);
}

/* Takes all that has come on a queue; how many. */
static unsigned
reap(unsigned qid)
{
	struct nvme_cqe cqe;
	unsigned n = 0;

	while (guest_take(&g, (uint16_t)qid, &cqe)) {
		must(!(cqe.status >> 1), "a command failed");
		n++;
	}
	return n;
}

/* The guest's turn: a new batch when the last one is done. */
static int
drive(struct reactor_poller *p)
{
	uint64_t begin = util_now_ns();

	run.rounds++;
	for (unsigned q = 1; q <= run.queues && run.left; q++)
		run.left -= reap(q);
	if (!run.left) {
		if (run.done >= run.count)
			reactors_stop(0);
		for (unsigned q = 1; q <= run.queues; q++)
			submit(q, run.opcode, run.batch);
		run.left = run.queues * run.batch;
		run.done += run.left;
	}
	run.guest_ns += util_now_ns() - begin;
	return 1;
}

/* What one look at the clock costs: half of two looks is outside of the guest's time. */
static double
clock_ns(void)
{
	uint64_t begin = util_now_ns(), end = begin;

	for (unsigned i = 0; i < 1000; i++)
		end = util_now_ns();
	return (double)(end - begin) / 1000;
}

int
main(int argc, char **argv)
{
	struct reactor_poller guest = { .poll = drive,
					.name = "guest",
					.phase = 1 };
	uint64_t begin;
	double ns;

	must(argc == 4 || argc == 5, "usage: path OP BATCH COUNT [QUEUES]");
	run.opcode = strcmp(argv[1], "write") ? 2 : 1;
	run.batch = number(argv[2]);
	run.count = number(argv[3]);
	run.queues = argc == 5 ? number(argv[4]) : 1;
	must(run.batch >= 1 && run.batch < DEPTH, "BATCH: 1 to 255");
	must(run.queues >= 1 && run.queues < GUEST_QUEUES, "QUEUES: 1 to 8");
	setup(run.queues);
	reactor_poller_add(reactor_get(0), &guest);
	begin = util_now_ns();
	must(!reactors_run(), "the reactor did not end well");
	ns = (double)(util_now_ns() - begin - run.guest_ns) -
	     clock_ns() * (double)run.rounds;
	run.done -= run.left; /* the last batch was not waited for */
	printf("%.2f %.4f\n", ns / (double)run.done,
	       (double)run.rounds / (double)run.done);
	fflush(stdout);
	_exit(0); /* the end of it all is for the unit tests */
}
