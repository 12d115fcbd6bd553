/* SPDX-License-Identifier: BSD-3-Clause */
/* Each command of a legacy connection, one row a request. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "unit.h"

#define P(x) &(x), sizeof(x)
#define DI(...) P(((const struct vu_device_info){ __VA_ARGS__ }))
#define RI(...) P(((const struct vfio_region_info){ __VA_ARGS__ }))
#define IO(...) P(((const struct vu_region_io_fds){ __VA_ARGS__ }))
#define II(...) P(((const struct vfio_irq_info){ __VA_ARGS__ }))
#define AC(...) P(((const struct vu_region_access){ __VA_ARGS__ }))
#define DM(...) P(((const struct vu_dma_map){ __VA_ARGS__ }))
#define DU(...) P(((const struct vu_dma_unmap){ __VA_ARGS__ }))
#define DF(...) P(((const struct vu_device_feature){ __VA_ARGS__ }))
#define ID(...) P(((const struct vu_ioas_id){ __VA_ARGS__ }))
#define TOP 0xfffffffffffff000ull
#define M(c, n)      \
	{            \
		c, n \
	}

static const struct {
	struct vu_region_access a;
	uint8_t data[8];
} __attribute__((packed))
w4 = { { 0, 0, 4 } },
	w8 = { { 0, 0, 8 } }, wend = { { BAR_LEN - 8, 0, 8 } },
	wover = { { BAR_LEN - 7, 0, 8 } }, wwrap = { { UINT64_MAX - 3, 0, 8 } },
	wro = { { 0, 5, 8 } }, wabsent = { { 0, 1, 8 } },
	wbad = { { 0, 9, 8 } }, whuge = { { 0, 0, UINT32_MAX } };
static const struct {
	uint64_t cnt;
	struct vu_multi_entry e[2];
} __attribute__((packed)) m2 = { 2, { { 0, 0, 4 }, { 8, 7, 8 } } },
			  m1 = { 1, { { 0, 0, 4 } } },
			  m3 = { 3, { { 0, 0, 4 } } },
			  mhuge = { UINT64_MAX, { { 0, 0, 4 } } },
			  /* 24 times it wraps to 48 */
	mwrap = { 0x2000000000000002ull, { { 0, 0, 4 } } },
			  m9 = { 2, { { 0, 0, 4 }, { 8, 0, 9 } } },
			  mbad = { 2, { { 0, 0, 4 }, { 8, 9, 4 } } },
			  mover = { 2, { { 0, 0, 4 }, { 4093, 7, 4 } } },
			  mzero = { 2, { { 0, 0, 0 }, { 8, 7, 0 } } };
static const uint64_t m0 = 0;

/* clang-format off */
static const struct {
	const char *name;
	unsigned cmd;
	const void *p;
	size_t len;
	int want;
	size_t reply;	/* payload of the answer */
	unsigned nfds;	/* all of one memory file */
} cases[] = {
	{ "info", 4, DI(16), 0, 16 },
	{ "info, argsz of Cloud Hypervisor", 4, DI(32), 0, 16 },
	{ "info, argsz 15", 4, DI(15), EINVAL },
	{ "info, argsz 0", 4, DI(0), EINVAL },
	{ "info, cut off", 4, "\x10\0\0", 3, EINVAL },

	{ "region 0, short", 5, RI(32), 0, 32 },
	{ "region 0, a byte short", 5, RI(63), 0, 32 },
	{ "region 1, absent", 5, RI(32, 0, 1), 0, 32 },
	{ "region 8", 5, RI(4096, 0, 8), 0, 32 },
	{ "region 9", 5, RI(32, 0, 9), EINVAL },
	{ "region -1", 5, RI(32, 0, UINT32_MAX), EINVAL },
	{ "region info, argsz 31", 5, RI(31), EINVAL },
	{ "region info, cut off", 5, "\x20\0\0\0\0", 5, EINVAL },

	{ "io fds", 6, IO(16), 0, 16 },
	{ "io fds, region 9", 6, IO(16, 0, 9), EINVAL },
	{ "io fds, flags", 6, IO(16, 1), EINVAL },
	{ "io fds, argsz", 6, IO(8), EINVAL },

	{ "irq info, INTx", 7, II(16, 0, 0), 0, 16 },
	{ "irq info, REQ", 7, II(16, 0, 4), 0, 16 },
	{ "irq info, 5", 7, II(16, 0, 5), EINVAL },
	{ "irq info, -1", 7, II(16, 0, UINT32_MAX), EINVAL },
	{ "irq info, argsz", 7, II(12, 0, 0), EINVAL },

	{ "read 4", 9, AC(0, 0, 4), 0, 20 },
	{ "read nothing", 9, AC(0, 0, 0), 0, 16 },
	{ "read all of config", 9, AC(0, 7, 4096), 0, 4112 },
	{ "read a byte too many", 9, AC(0, 7, 4097), EINVAL },
	{ "read the last byte", 9, AC(BAR_LEN - 1, 0, 1), 0, 17 },
	{ "read nothing at the end", 9, AC(BAR_LEN, 0, 0), 0, 16 },
	{ "read past the end", 9, AC(BAR_LEN, 0, 1), EINVAL },
	{ "read nothing past the end", 9, AC(BAR_LEN + 1, 0, 0), EINVAL },
	{ "read wraps", 9, AC(UINT64_MAX, 0, 2), EINVAL },
	{ "read wraps to the start", 9, AC(UINT64_MAX - 1, 0, BAR_LEN), EINVAL },
	{ "read 4 GiB", 9, AC(0, 0, UINT32_MAX), EINVAL },
	{ "read an absent region", 9, AC(0, 1, 4), EINVAL },
	{ "read region 9", 9, AC(0, 9, 4), EINVAL },
	{ "read region -1", 9, AC(0, UINT32_MAX, 4), EINVAL },
	{ "read, cut off", 9, &w4, 15, EINVAL },

	{ "write 4", 10, &w4, 20, 0, 16 },
	{ "write nothing", 10, AC(0, 0, 0), 0, 16 },
	{ "write 8 at the end", 10, P(wend), 0, 16 },
	{ "write, a byte less", 10, &w4, 19, EINVAL },
	{ "write, a byte more", 10, &w4, 21, EINVAL },
	{ "write past the end", 10, P(wover), EINVAL },
	{ "write wraps", 10, P(wwrap), EINVAL },
	{ "write read-only", 10, P(wro), EINVAL },
	{ "write absent", 10, P(wabsent), EINVAL },
	{ "write region 9", 10, P(wbad), EINVAL },
	{ "write says 4 GiB", 10, P(whuge), EINVAL },
	{ "write, cut off", 10, &w8, 8, EINVAL },

	{ "multi, two", 15, P(m2), 0, 8 },
	{ "multi, none", 15, P(m0), 0, 8 },
	{ "multi, empty entries", 15, P(mzero), 0, 8 },
	{ "multi, one too many bytes", 15, P(m1), EINVAL },
	{ "multi, one too few", 15, P(m3), EINVAL },
	{ "multi, endless", 15, P(mhuge), EINVAL },
	{ "multi, count wraps", 15, P(mwrap), EINVAL },
	{ "multi, nine bytes", 15, P(m9), EINVAL },
	{ "multi, region 9", 15, P(mbad), EINVAL },
	{ "multi, past the end", 15, P(mover), EINVAL },
	{ "multi, cut off", 15, &m0, 7, EINVAL },

	{ "map", 2, DM(32, 3, 0, 0, 4096), 0, 0, 1 },
	{ "map, bit 2", 2, DM(32, 7, 0, 0, 4096), 0, 0, 1 },
	{ "map to the last page of the file", 2, DM(32, 3, GUEST_LEN - 4096, 0, 4096), 0, 0, 1 },
	{ "map a ROM without fd", 2, DM(32, 1, 0, 0xc0000, 0x20000), 0 },
	{ "map without fd, offset ignored", 2, DM(32, 3, 77, 0, 4096), 0 },
	{ "map, bit 2 without fd", 2, DM(32, 7, 0, 0, 4096), EINVAL },
	{ "map, file I/O", 2, DM(32, 11, 0, 0, 4096), ENOTSUP, 0, 1 },
	{ "map, unknown bit", 2, DM(32, 19, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, unknown bit 31", 2, DM(32, 0x80000003, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, neither read nor write", 2, DM(32, 0, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, two fds", 2, DM(32, 3, 0, 0, 4096), EINVAL, 0, 2 },
	{ "map, empty", 2, DM(32, 3, 0, 0, 0), EINVAL, 0, 1 },
	{ "map, argsz", 2, DM(31, 3, 0, 0, 4096), EINVAL, 0, 1 },
	{ "map, unaligned address", 2, DM(32, 3, 0, 512, 4096), EINVAL, 0, 1 },
	{ "map, unaligned size", 2, DM(32, 3, 0, 0, 4095), EINVAL, 0, 1 },
	{ "map, unaligned offset", 2, DM(32, 3, 8, 0, 4096), EINVAL, 0, 1 },
	{ "map wraps", 2, DM(32, 3, 0, TOP, 8192), EINVAL, 0, 1 },
	{ "map beyond the file", 2, DM(32, 3, GUEST_LEN, 0, 4096), EINVAL, 0, 1 },
	{ "map, offset wraps", 2, DM(32, 3, TOP, 0, 8192), EINVAL, 0, 1 },
	{ "map, cut off", 2, &w8, 8, EINVAL, 0, 1 },

	{ "unmap nothing", 3, DU(24, 0, 0, 1ull << 47), 0, 24 },
	{ "unmap the upper half", 3, DU(24, 0, 1ull << 63, 1ull << 63), 0, 24 },
	{ "unmap with an fd", 3, DU(24, 0, 0, 4096), 0, 24, 1 },
	{ "unmap all", 3, DU(24, 2), 0, 24 },
	{ "unmap all with a size", 3, DU(24, 2, 0, 4096), EINVAL },
	{ "unmap all with an address", 3, DU(24, 2, 4096, 0), EINVAL },
	{ "unmap, dirty bitmap", 3, DU(24, 1, 0, 4096), ENOTSUP },
	{ "unmap, unknown bit", 3, DU(24, 4, 0, 4096), EINVAL },
	{ "unmap, empty", 3, DU(24, 0, 0, 0), EINVAL },
	{ "unmap wraps", 3, DU(24, 0, TOP, 8192), EINVAL },
	{ "unmap, argsz", 3, DU(16, 0, 0, 4096), EINVAL },
	{ "unmap, cut off", 3, &w8, 16, EINVAL },

	{ "reset", 13, NULL, 0, 0 },
	{ "feature, probe", 16, DF(8, 1 << 18 | 1), ENOTTY },
	{ "feature, get migration", 16, DF(8, 1 << 16 | 1), ENOTTY },
	{ "feature, unknown", 16, DF(8, 1 << 17 | 999), ENOTTY },
	{ "feature, argsz", 16, DF(7, 1 << 16 | 1), EINVAL },
	{ "feature, cut off", 16, "\x8\0\0\0", 4, EINVAL },

	{ "iommufd: alloc", 19, ID(16), EINVAL },
	{ "iommufd: destroy", 20, ID(16, 0, 1), EINVAL },
	{ "iommufd: map", 21, &m2, 48, EINVAL, 0, 1 },
	{ "iommufd: unmap", 22, &m2, 32, EINVAL },
	{ "iommufd: copy", 23, &m2, 40, EINVAL },
	{ "iommufd: bind", 24, ID(16, 0, -1u), EINVAL },
	{ "iommufd: attach", 25, ID(16, 0, 1), EINVAL },
	{ "iommufd: detach", 26, ID(16), EINVAL },
};
/* clang-format on */

/* Each on a connection of its own, so that no row leans on another. */
static void
test_commands(void **state)
{
	int file = guest_file(), fds[2] = { file, file };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int c = client_start(LEGACY_JSON), err;
		struct reply r;

		err = client_call(c, cases[i].cmd, cases[i].p, cases[i].len,
				  fds, cases[i].nfds, &r);
		if (err != cases[i].want || r.len != cases[i].reply)
			fail_msg("%s: errno %d, %zu bytes", cases[i].name, err,
				 r.len);
		assert_int_equal(r.nfds, 0);
		/* the connection is as good as before */
		assert_int_equal(client_call(c, VU_DEVICE_RESET, NULL, 0, NULL,
					     0, NULL),
				 0);
		close(c);
		until(!fake.opened);
	}
	close(file);
}

static void
test_region_info(void **state)
{
	struct vfio_region_info req = { .argsz = 32 };
	struct vu_region_info full;
	struct stat st[2];
	struct reply r;
	int c = client_start(LEGACY_JSON);

	client_call(c, 5, &req, sizeof(req), NULL, 0, &r);
	memcpy(&full, r.data, 32);
	assert_int_equal(full.info.argsz, 64);
	assert_int_equal(full.info.flags, VFIO_REGION_INFO_FLAG_READ |
						  VFIO_REGION_INFO_FLAG_WRITE);
	assert_int_equal(full.info.size, BAR_LEN);
	req.argsz = 64;
	client_call(c, 5, &req, sizeof(req), NULL, 0, &r);
	assert_int_equal(r.len, 64);
	memcpy(&full, r.data, 64);
	assert_int_equal(full.info.flags, 15);
	assert_int_equal(full.info.cap_offset, 32);
	assert_int_equal(full.cap.id, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_int_equal(full.cap.version, 1);
	assert_int_equal(full.cap.next, 0);
	assert_int_equal(full.nr_areas, 1);
	assert_int_equal(full.area.offset, 4096);
	assert_int_equal(full.area.size, 4096);
	assert_int_equal(r.nfds, 1);
	fstat(r.fds[0], &st[0]);
	fstat(fake.barfd, &st[1]);
	assert_int_equal(st[0].st_ino, st[1].st_ino);
	close(r.fds[0]);
	close(c);
}

/* It said that it can take no descriptor. */
static void
test_region_info_no_fds(void **state)
{
	struct vfio_region_info req = { .argsz = 4096 };
	struct reply r;
	int c = client_start("{\"capabilities\":{\"max_msg_fds\":0}}");

	client_call(c, 5, &req, sizeof(req), NULL, 0, &r);
	memcpy(&req, r.data, sizeof(req));
	assert_int_equal(r.len, 32);
	assert_int_equal(r.nfds, 0);
	assert_int_equal(req.argsz, 32);
	assert_int_equal(req.flags, 3);
	close(c);
}

static void
test_infos(void **state)
{
	static const uint32_t counts[] = { 1, 0, MSIX_VECTORS, 1, 1 };
	struct vu_device_info info = { .argsz = 16 };
	struct reply r;
	int c = client_start(LEGACY_JSON);

	client_call(c, 4, &info, sizeof(info), NULL, 0, &r);
	memcpy(&info, r.data, sizeof(info));
	assert_int_equal(info.argsz, 16);
	assert_int_equal(info.flags, 3);
	assert_int_equal(info.num_regions, 9);
	assert_int_equal(info.num_irqs, 5);
	for (uint32_t i = 0; i < 5; i++) {
		struct vfio_irq_info irq = { .argsz = 16, .index = i };

		client_call(c, 7, &irq, sizeof(irq), NULL, 0, &r);
		memcpy(&irq, r.data, sizeof(irq));
		assert_int_equal(irq.index, i);
		assert_int_equal(irq.count, counts[i]);
		assert_int_equal(irq.flags & VFIO_IRQ_INFO_EVENTFD,
				 counts[i] ? 1 : 0);
		assert_int_equal(irq.flags & VFIO_IRQ_INFO_NORESIZE, 0);
	}
	close(c);
}

/* The largest transfers there are, and what a device says about one. */
static void
test_region_data(void **state)
{
	struct vu_region_access a = { 100, 0, 4096 };
	uint8_t *buf = malloc(16 + VU_DEFAULT_DATA_XFER);
	struct reply r;
	int c = client_start(NULL);

	memcpy(buf, &a, sizeof(a));
	for (size_t i = 0; i < 4096; i++)
		buf[16 + i] = (uint8_t)(i * 7);
	assert_int_equal(client_call(c, 10, buf, 16 + 4096, NULL, 0, &r), 0);
	assert_memory_equal(r.data, &a, sizeof(a));
	assert_memory_equal(fake.bar + 100, buf + 16, 4096);
	assert_int_equal(client_call(c, 9, &a, sizeof(a), NULL, 0, &r), 0);
	assert_memory_equal(r.data, buf, 16 + 4096);
	a = (struct vu_region_access){ 0, 0, VU_DEFAULT_DATA_XFER };
	memcpy(buf, &a, sizeof(a));
	assert_int_equal(client_call(c, 10, buf, 16 + VU_DEFAULT_DATA_XFER,
				     NULL, 0, NULL),
			 EINVAL); /* more than the region has */
	fake.io_err = -EIO;
	a = (struct vu_region_access){ 0, 0, 4 };
	assert_int_equal(client_call(c, 9, &a, sizeof(a), NULL, 0, NULL), EIO);
	assert_int_equal(client_call(c, 10, &w4, 20, NULL, 0, NULL), EIO);
	free(buf);
	close(c);
}

static void
test_multi(void **state)
{
	enum { N = 250 };
	static struct {
		uint64_t cnt;
		struct vu_multi_entry e[N];
	} __attribute__((packed)) m = { .cnt = N };
	uint64_t done;
	struct reply r;
	int c = client_start(LEGACY_JSON);

	for (unsigned i = 0; i < N; i++) {
		m.e[i] = (struct vu_multi_entry){ i * 8, 0, 8 };
		memset(m.e[i].data, (int)i, 8);
	}
	assert_int_equal(client_call(c, 15, &m, sizeof(m), NULL, 0, &r), 0);
	memcpy(&done, r.data, 8);
	assert_int_equal(done, N);
	assert_int_equal(fake.writes, N);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(fake.bar[i * 8 + 7], (uint8_t)i);
	/* posted, as QEMU sends it */
	client_send(c, 15, VU_F_NO_REPLY, &m, sizeof(m), NULL, 0);
	until(fake.writes == 2 * N);
	assert_true(client_silent(c));
	/* a bad one at the end: nothing is written */
	m.e[N - 1].region = 9;
	assert_int_equal(client_call(c, 15, &m, sizeof(m), NULL, 0, NULL),
			 EINVAL);
	assert_int_equal(fake.writes, 2 * N);
	close(c);
}

/* Each entry is answered later by the device. */
static void
test_multi_later(void **state)
{
	struct reply r;
	int c = client_start(NULL);

	fake.later_io = true;
	client_send(c, 15, 0, &m2, sizeof(m2), NULL, 0);
	until(fake.busy && fake.writes == 1);
	assert_true(client_silent(c));
	fake_finish(0);
	until(fake.busy && fake.writes == 2);
	fake_finish(0);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, 0);
	client_send(c, 15, 0, &m2, sizeof(m2), NULL, 0);
	until(fake.busy);
	fake_finish(-EIO);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, EIO);
	assert_int_equal(fake.writes, 3);
	close(c);
}

static void
test_later(void **state)
{
	struct vu_region_access a = { 0, 7, 16 };
	struct reply r;
	int c = client_start(NULL);

	fake.later_io = fake.later_reset = true;
	memset(fake.config, 0x11, 16);
	client_send(c, 9, 0, &a, sizeof(a), NULL, 0);
	client_send(c, 13, 0, NULL, 0, NULL, 0);
	until(fake.busy);
	assert_true(client_silent(c));
	assert_int_equal(fake.resets, 0); /* one at a time */
	memset(fake.read_buf, 0x22, 16);
	fake_finish(0);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.data[16], 0x22);
	until(fake.busy && fake.resets == 1);
	fake_finish(-EBUSY);
	assert_true(client_recv(c, &r));
	assert_int_equal(r.hdr.error_no, EBUSY);
	close(c);
}

/* DMA_MAP and DMA_UNMAP reach the device's view of memory. */
static void
test_dma(void **state)
{
	struct vu_dma_map map = { 32, 3, 8192, 0x10000, 4096 };
	struct vu_dma_unmap unmap = { 24, 0, 0x10000, 4096 };
	int c = client_start(LEGACY_JSON), fd = guest_file();
	struct ioas_view *view = ioas_ctx_view(fake.ioas);
	struct ioas_hit hit = { 0 };
	struct vu_client_info info;
	struct reply r;
	void *host;

	assert_int_equal(pwrite(fd, "bell", 4, 8192), 4);
	assert_int_equal(client_call(c, 2, &map, sizeof(map), &fd, 1, NULL), 0);
	host = ioas_translate(view, &hit, 0x10000, 4, IOAS_READ);
	assert_non_null(host);
	assert_memory_equal(host, "bell", 4);
	map.size = 8192;
	assert_int_equal(client_call(c, 2, &map, sizeof(map), &fd, 1, NULL),
			 EEXIST);
	unmap.size = 2048; /* would split it */
	assert_int_equal(client_call(c, 3, &unmap, sizeof(unmap), NULL, 0,
				     NULL),
			 EINVAL);
	assert_true(vu_client(listener, &info));
	assert_int_equal(info.pid, getpid());
	assert_int_equal(info.uid, getuid());
	assert_int_equal(info.usage.extents, 1);
	assert_int_equal(info.messages, 4);
	unmap.size = 1 << 20;
	assert_int_equal(client_call(c, 3, &unmap, sizeof(unmap), NULL, 0, &r),
			 0);
	assert_memory_equal(r.data, &unmap, sizeof(unmap));
	assert_null(ioas_translate(view, &hit, 0x10000, 4, IOAS_READ));
	close(fd);
	close(c);
	until(!vu_client(listener, &info));
}

#define T(f) cmocka_unit_test_setup_teardown(f, unit_setup, unit_teardown)

int
command_tests(void)
{
	const struct CMUnitTest tests[] = {
		T(test_commands),
		T(test_region_info),
		T(test_region_info_no_fds),
		T(test_infos),
		T(test_region_data),
		T(test_multi),
		T(test_multi_later),
		T(test_later),
		T(test_dma),
	};

	return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
