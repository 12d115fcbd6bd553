/* SPDX-License-Identifier: BSD-3-Clause */
/* Connection, controller, admin commands, against a peer that may misbehave. */
#include <poll.h>
#include <sys/eventfd.h>

#include "unit.h"

static const struct mode_case {
	const char *name;
	bool offered;
	enum belfry_mode asked;
	int want;
	enum belfry_mode got;
} mode_cases[] = {
	{ "auto takes iommufd", true, BELFRY_AUTO, 0, BELFRY_IOMMUFD },
	{ "auto takes legacy", false, BELFRY_AUTO, 0, BELFRY_LEGACY },
	{ "legacy though iommufd is offered", true, BELFRY_LEGACY, 0,
	  BELFRY_LEGACY },
	{ "iommufd asked and offered", true, BELFRY_IOMMUFD, 0,
	  BELFRY_IOMMUFD },
	{ "iommufd asked, not offered", false, BELFRY_IOMMUFD, -EPROTONOSUPPORT,
	  0 },
};

static void
modes(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(mode_cases); i++) {
		const struct mode_case *c = &mode_cases[i];
		struct peer_opts po = { .iommufd = c->offered };
		struct rig r;
		int err = rig_open(&r, &po, c->asked, false);

		if (err != c->want)
			fail_msg("%s: %d", c->name, err);
		if (err)
			continue;
		assert_int_equal(belfry_mode_of(r.h), c->got);
		rig_close(&r);
	}
}

static void
no_server(void **state)
{
	struct belfry_host *h;
	char longest[300];

	memset(longest, 'x', sizeof(longest));
	longest[299] = 0;
	assert_int_equal(belfry_connect("/nonexistent/cntrl", NULL, &h),
			 -ENOENT);
	assert_int_equal(belfry_connect(longest, NULL, &h), -ENAMETOOLONG);
	assert_int_equal(belfry_connect_fd(-1, NULL, &h), -EBADF);
}

/* enable, identify, disable and all again; nothing of the memory stays mapped. */
static void
life(enum belfry_mode mode)
{
	struct peer_opts po = { .iommufd = true };
	struct belfry_ctrl_info info;
	struct belfry_ns ns;
	struct rig r;
	unsigned maps, n;

	assert_int_equal(rig_open(&r, &po, mode, false), 0);
	assert_int_equal(belfry_identify(r.h, &info), -ENODEV);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(belfry_enable(r.h, i ? 4 : 0), 0);
		assert_int_equal(belfry_identify(r.h, &info), 0);
		assert_string_equal(info.serial, "PEER0001");
		assert_string_equal(info.model, "ideal peer");
		assert_string_equal(info.firmware, "1");
		assert_int_equal(info.max_transfer, 4096 << 5);
		assert_int_equal(belfry_next_ns(r.h, 0), 1);
		assert_int_equal(belfry_next_ns(r.h, 1), 0);
		assert_int_equal(belfry_identify_ns(r.h, 1, &ns), 0);
		assert_int_equal(ns.blocks, 2048);
		assert_int_equal(ns.block_len, 512);
		assert_int_equal(ns.uuid[15], 0xab);
		assert_int_equal(belfry_identify_ns(r.h, 2, &ns), -ENOENT);
		assert_int_equal(belfry_set_queue_count(r.h, 3, &n), 0);
		assert_int_equal(n, 16);
		assert_int_equal(belfry_disable(r.h), 0);
		assert_int_equal(belfry_identify(r.h, &info), -ENODEV);
		if (!i)
			maps = peer_maps(r.peer);
	}
	assert_int_equal(peer_maps(r.peer), maps);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_device_reset(r.h), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_shutdown(r.h), 0);
	assert_int_equal(belfry_identify(r.h, &info), -ENODEV);
	rig_close(&r);
}

static void
life_legacy(void **state)
{
	life(BELFRY_LEGACY);
}

static void
life_iommufd(void **state)
{
	life(BELFRY_IOMMUFD);
}

static void
bad_controllers(void **state)
{
	struct peer_opts po = { .faults = PEER_NEVER_READY };
	struct belfry_ctrl_info info;
	struct belfry_qpair *q;
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	r.h->opts.timeout_ms = 100;
	assert_int_equal(belfry_enable(r.h, 0), -ETIMEDOUT);
	assert_int_equal(belfry_enable(r.h, 1), -EINVAL);
	assert_int_equal(belfry_enable(r.h, 4097), -EINVAL);
	rig_close(&r);

	po.faults = PEER_FATAL;
	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), -EIO);
	rig_close(&r);

	po.faults = PEER_NO_QUEUES;
	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_qpair_create(r.h, 16, -1, &q), 0x101);
	assert_string_equal(belfry_status_str(0x101),
			    "Invalid Queue Identifier");
	assert_int_equal(belfry_qpair_create(r.h, 1, -1, &q), -EINVAL);
	assert_int_equal(belfry_qpair_create(r.h, 1025, -1, &q), -EINVAL);
	rig_close(&r);

	po.faults = PEER_ENDLESS_NS;
	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_next_ns(r.h, 1), -EPROTO);
	rig_close(&r);

	po.faults = PEER_DEAF;
	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_admin(r.h, &(struct belfry_sqe){ { 6 } }, &info,
				      sizeof(info), NULL, 50),
			 -ETIMEDOUT);
	rig_close(&r);
}

static void
admin_data(void **state)
{
	struct peer_opts po = { 0 };
	struct belfry_sqe sqe = { .dw = { 0x02 } };
	static uint8_t big[(1 << 20) + 1];
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 2), 0);
	/* The peer knows no Get Log Page: a status comes back, data does not. */
	assert_int_equal(belfry_admin(r.h, &sqe, big, 1 << 20, NULL, 0), 1);
	assert_int_equal(belfry_admin(r.h, &sqe, big, sizeof(big), NULL, 0),
			 -E2BIG);
	for (int i = 0; i < 100; i++) /* round and round a ring of two */
		assert_int_equal(belfry_admin(r.h, &sqe, NULL, 0, NULL, 0), 1);
	rig_close(&r);
}

static void
server_goes(void **state)
{
	struct peer_opts po = { .faults = PEER_DEAF };
	struct belfry_ctrl_info info;
	struct belfry_mem *m;
	struct rig r;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_mem_alloc(r.h, 1, BELFRY_MEM_READ, &m), 0);
	assert_int_equal(m->len, 4096);
	peer_stop(r.peer);
	assert_int_equal(belfry_identify(r.h, &info), -ECONNRESET);
	assert_int_equal(belfry_mem_free(r.h, m), -ECONNRESET);
	assert_int_equal(belfry_disable(r.h), -ECONNRESET);
	belfry_disconnect(r.h);
}

static void
memory(void **state)
{
	struct peer_opts po = { .iommufd = true };
	struct belfry_mem *a, *b;
	struct rig r;

	for (int mode = BELFRY_LEGACY; mode <= BELFRY_IOMMUFD; mode++) {
		assert_int_equal(rig_open(&r, &po, mode, false), 0);
		assert_int_equal(belfry_mem_alloc(r.h, 0, BELFRY_MEM_READ, &a),
				 -EINVAL);
		assert_int_equal(belfry_mem_alloc(r.h, 1, 0, &a), -EINVAL);
		assert_int_equal(belfry_mem_alloc(r.h, 1, 8, &a), -EINVAL);
		assert_int_equal(
			belfry_mem_alloc(r.h, 3 << 20, BELFRY_MEM_READ, &a), 0);
		assert_int_equal(a->iova % 4096, 0);
		assert_int_equal(belfry_mem_map_fd(r.h, a->fd, 4096, 8192,
						   1 << 20, BELFRY_MEM_WRITE,
						   &b),
				 0);
		assert_null(b->va);
		if (mode == BELFRY_LEGACY)
			assert_int_equal(b->iova, 1 << 20);
		assert_int_equal(peer_maps(r.peer), 2);
		assert_int_equal(belfry_mem_free_begin(r.h, b), 0);
		/* Nothing overtakes an unmap that was begun. */
		assert_int_equal(belfry_mem_free(r.h, a), -EBUSY);
		assert_int_equal(belfry_mem_free_end(r.h, b, 0), 0);
		assert_int_equal(belfry_mem_free(r.h, a), 0);
		assert_int_equal(peer_maps(r.peer), 0);
		rig_close(&r);
	}
}

/* Where the machine has 2 MiB pages to give: lengths and addresses are theirs. */
static void
huge_pages(void **state)
{
	struct peer_opts po = { 0 };
	struct belfry_mem *m;
	struct rig r;
	int err;

	assert_int_equal(rig_open(&r, &po, BELFRY_LEGACY, false), 0);
	r.h->opts.huge_pages = true;
	err = belfry_mem_alloc(r.h, 4096, BELFRY_MEM_READ, &m);
	if (!err) {
		assert_int_equal(m->len, 2 << 20);
		assert_int_equal(m->iova % (2 << 20), 0);
		memset(m->va, 1, m->len);
		assert_int_equal(belfry_mem_free(r.h, m), 0);
	} else {
		assert_int_equal(err, -ENOMEM);
	}
	assert_int_equal(peer_maps(r.peer), 0);
	rig_close(&r);
	if (err)
		skip();
}

static void
events(void **state)
{
	struct peer_opts po = { 0 };
	uint32_t dw0 = 0;
	struct rig r;
	int n = 0;

	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_aer_submit(r.h), -ENODEV);
	assert_int_equal(belfry_enable(r.h, 0), 0);
	assert_int_equal(belfry_aer_poll(r.h, &dw0), 0);
	for (int i = 0; i < 5; i++) /* the peer takes four */
		assert_int_equal(belfry_aer_submit(r.h), 0);
	for (int i = 0; i < 20000 && !n; i++, usleep(1000))
		n = belfry_aer_poll(r.h, &dw0);
	assert_int_equal(n, -EIO);
	peer_event(r.peer, 0x40302);
	/* It comes in between an admin command's wait, too. */
	for (n = 0; n < 20000 && !r.h->naer; n++) {
		unsigned got;

		assert_int_equal(belfry_set_queue_count(r.h, 1, &got), 0);
	}
	assert_int_equal(belfry_aer_poll(r.h, &dw0), 1);
	assert_int_equal(dw0, 0x40302);
	assert_int_equal(belfry_aer_poll(r.h, &dw0), 0);
	rig_close(&r);
}

/* Eventfds go in messages of as many as the server takes. */
static void
irqs(void **state)
{
	struct peer_opts po = { .max_fds = 3 };
	uint16_t flags;
	struct rig r;
	int fds[65];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_int_equal(rig_open(&r, &po, BELFRY_AUTO, false), 0);
	assert_int_equal(belfry_irq_count(r.h), 64);
	assert_int_equal(belfry_irq_enable(r.h, fds, 65), -ERANGE);
	assert_int_equal(belfry_irq_enable(r.h, fds, 64), 0);
	assert_int_equal(peer_irqs(r.peer), 64);
	assert_int_equal(peer_irq_messages(r.peer), 22);
	assert_int_equal(belfry_config_read(r.h, 0x52, &flags, 2), 0);
	assert_int_equal(flags, 0x803f);
	assert_int_equal(belfry_irq_enable(r.h, NULL, 0), 0);
	assert_int_equal(peer_irqs(r.peer), 0);
	assert_int_equal(belfry_config_read(r.h, 0x52, &flags, 2), 0);
	assert_int_equal(flags & 0x8000, 0);
	rig_close(&r);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
}

int
host_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes),
		cmocka_unit_test(no_server),
		cmocka_unit_test(life_legacy),
		cmocka_unit_test(life_iommufd),
		cmocka_unit_test(bad_controllers),
		cmocka_unit_test(admin_data),
		cmocka_unit_test(server_goes),
		cmocka_unit_test(memory),
		cmocka_unit_test(events),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(irqs),
	};

	return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
