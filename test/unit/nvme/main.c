/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Files that a build may not have. */
int admin_tests(void) __attribute__((weak));
int identify_tests(void) __attribute__((weak));
int feature_tests(void) __attribute__((weak));
int log_page_tests(void) __attribute__((weak));
int queue_cmd_tests(void) __attribute__((weak));
int aer_tests(void) __attribute__((weak));

#define DISK_BLOCKS 4096

struct sigaction sigbus; /* ours: the runner replaces it for each test */

unsigned
irqs_seen(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? (unsigned)n : 0;
}

int
bind_vector(struct guest *g, enum irq_index index, unsigned iv)
{
	int fd = eventfd(0, EFD_NONBLOCK), mine = dup(fd);

	assert_int_equal(irq_bind(g->irqs, index, iv, 1, &fd), 0);
	return mine;
}

struct nvme_req *
take_req(struct nvme_sq *sq)
{
	struct nvme_req *req = req_get(sq, &sq->group->core->reqs);

	assert_non_null(req);
	list_push_back(&sq->inflight, &req->node);
	sq_promise(sq, 1);
	return req;
}

int
world_new(void **state, const struct guest_opts *opts, bool enable)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->disk =
		fake_bdev_create("disk", 512, DISK_BLOCKS, FAKE_BDEV_ALL_CAPS);
	assert_non_null(w->disk);
	guest_init(&w->g, opts);
	*state = w;
	if (!enable)
		return 0;
	assert_int_equal(guest_enable(&w->g, 32), 1);
	assert_int_equal(guest_create_q(&w->g, 1, 64, true), 0);
	return 0;
}

int
world_setup(void **state)
{
	static const struct guest_opts opts = { .bdev = "disk" };

	return world_new(state, &opts, true);
}

int
world_setup_trapped(void **state)
{
	static const struct guest_opts opts = { .bdev = "disk",
						.trapped = true,
						.shadow = true };

	return world_new(state, &opts, true);
}

int
world_setup_disabled(void **state)
{
	static const struct guest_opts opts = { .bdev = "disk", .nssr = true };

	return world_new(state, &opts, false);
}

static void
deleted(struct bdev_ctl *c, int err)
{
	assert_int_equal(err, 0);
}

int
world_setup_few_admin(void **state)
{
	static const struct guest_opts opts = { .bdev = "disk",
						.max_aq_depth = 2 };

	return world_new(state, &opts, true);
}

int
world_teardown(void **state)
{
	struct world *w = *state;
	struct bdev_ctl c = { .done = deleted };
	int err;

	fake_bdev_hold(w->disk, false);
	fake_bdev_release(w->disk, 1000000, 0);
	guest_fini(&w->g);
	err = bdev_delete("disk", NULL, &c);
	assert_true(err == 0 || err == -EINPROGRESS);
	for (unsigned i = 0; i < 1000 && bdev_find("disk"); i++)
		reactor_step(reactor_get(0));
	assert_null(bdev_find("disk"));
	free(w);
	return 0;
}

int
main(void)
{
	unsigned core = 0;
	struct reactor_config cfg = { .cores = &core,
				      .ncores = 1,
				      .idle = REACTOR_IDLE_POLL,
				      .no_pin = true };
	int (*const others[])(void) = {
		admin_tests,	     identify_tests,	feature_tests,
		log_page_tests,	     queue_cmd_tests,	aer_tests,
		spread_tests,	     spread_tell_tests, spread_any_tests,
		spread_threads_tests
	};
	int failed = 0;

	log_set_level(LOG_ERROR);
	if (reactors_init(&cfg) || bdev_init() || ioas_sigbus_init()) {
		fprintf(stderr, "no reactor\n");
		return 1;
	}
	sigaction(SIGBUS, NULL, &sigbus);
	failed += prp_tests() + sgl_tests() + sq_tests() + cq_tests();
	failed += regs_tests() + ctrl_tests() + io_tests() + ns_tests();
	failed += map_tests() + sleep_tests() + pace_tests();
	nvme_core_fini(reactor_get(0));
	bdev_fini();
	reactors_fini();
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (others[i])
			failed += others[i]();
	return failed;
}
