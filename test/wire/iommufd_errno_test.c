/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands 19 to 26 at a real daemon: the errno of each failure, and that nothing is half done then.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common_iommufd.h"

enum which { NOWHERE, RW, RO };
enum fd_kind { NO_FD, MEM, PIPE, ZERO, TWO, RDONLY, WRONLY, SEALED };

static const struct row {
	const char *name;
	unsigned cmd;
	int want;
	uint32_t id, flags;
	enum which at;
	int64_t off; /* from there; in MAP: in the file */
	uint64_t len;
	uint32_t dst;
	enum fd_kind fd;
	int short_by; /* argsz and payload */
} rows[] = {
#define CMD(c) VU_IOMMUFD_##c
	{ "alloc: unknown flag", CMD(ALLOC_IOAS), EINVAL, 0, 1 },
	{ "alloc: short", CMD(ALLOC_IOAS), EINVAL, .short_by = 4 },
	{ "destroy: no such", CMD(DESTROY_IOAS), ENOENT, 99 },
	{ "destroy: id 0", CMD(DESTROY_IOAS), ENOENT, 0 },
	{ "destroy: attached", CMD(DESTROY_IOAS), EBUSY, 1 },
	{ "destroy: unknown flag", CMD(DESTROY_IOAS), EINVAL, 2, 1 },
	{ "destroy: short", CMD(DESTROY_IOAS), EINVAL, 2, .short_by = 1 },
	{ "map: no such IOAS", CMD(IOAS_MAP), ENOENT, 99, BOTH, 0, 0, PG(1), 0,
	  MEM },
	{ "map: no flags", CMD(IOAS_MAP), EINVAL, 2, 0, 0, 0, PG(1), 0, MEM },
	{ "map: unknown flag", CMD(IOAS_MAP), EINVAL, 2, 4 | BOTH, 0, 0, PG(1),
	  0, MEM },
	{ "map: no fd", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, PG(1) },
	{ "map: two fds", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, PG(1), 0, TWO },
	{ "map: empty", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, 0, 0, MEM },
	{ "map: half a page", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, 2048, 0,
	  MEM },
	{ "map: past the end", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, PG(9), PG(8),
	  0, MEM },
	{ "map: at the end", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, PG(16), PG(1),
	  0, MEM },
	{ "map: wraps", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, -4096, PG(2), 0,
	  MEM },
	{ "map: vast", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, 1ull << 63, 0,
	  MEM },
	{ "map: a pipe", CMD(IOAS_MAP), EINVAL, 2, VU_IOAS_READABLE, 0, 0,
	  PG(1), 0, PIPE },
	{ "map: /dev/zero", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, PG(1), 0,
	  ZERO },
	{ "map: write to a read-only fd", CMD(IOAS_MAP), EACCES, 2, BOTH, 0, 0,
	  PG(1), 0, RDONLY },
	{ "map: a write-only fd", CMD(IOAS_MAP), EACCES, 2, VU_IOAS_WRITEABLE,
	  0, 0, PG(1), 0, WRONLY },
	{ "map: sealed", CMD(IOAS_MAP), EPERM, 2, BOTH, 0, 0, PG(1), 0,
	  SEALED },
	{ "map: short", CMD(IOAS_MAP), EINVAL, 2, BOTH, 0, 0, PG(1), 0, MEM,
	  8 },
	{ "unmap: no such IOAS", CMD(IOAS_UNMAP), ENOENT, 99, 0, RW, 0, PG(8) },
	{ "unmap: unknown flag", CMD(IOAS_UNMAP), EINVAL, 2, 2, RW, 0, PG(8) },
	{ "unmap: nothing there", CMD(IOAS_UNMAP), ENOENT, 2, 0, NOWHERE, 4096,
	  PG(8) },
	{ "unmap: of the other IOAS", CMD(IOAS_UNMAP), ENOENT, 1, 0, RW, 0,
	  PG(8) },
	{ "unmap: empty", CMD(IOAS_UNMAP), EINVAL, 2, 0, RW, 0, 0 },
	{ "unmap: the head", CMD(IOAS_UNMAP), ENOENT, 2, 0, RW, 0, PG(7) },
	{ "unmap: the tail", CMD(IOAS_UNMAP), ENOENT, 2, 0, RW, 4096, PG(7) },
	{ "unmap: the middle", CMD(IOAS_UNMAP), ENOENT, 2, 0, RW, 4096, PG(1) },
	{ "unmap: wraps", CMD(IOAS_UNMAP), EINVAL, 2, 0, RW, 0, UINT64_MAX },
	{ "unmap: short", CMD(IOAS_UNMAP), EINVAL, 2, 0, RW, 0, PG(8),
	  .short_by = 8 },
	{ "copy: no such source", CMD(IOAS_COPY), ENOENT, 99, BOTH, RW, 0,
	  PG(1), 1 },
	{ "copy: no such destination", CMD(IOAS_COPY), ENOENT, 2, BOTH, RW, 0,
	  PG(1), 99 },
	{ "copy: from the wrong IOAS", CMD(IOAS_COPY), ENOENT, 1, BOTH, RW, 0,
	  PG(1), 2 },
	{ "copy: past the end", CMD(IOAS_COPY), ENOENT, 2, BOTH, RW, PG(1),
	  PG(8), 1 },
	{ "copy: before it", CMD(IOAS_COPY), ENOENT, 2, BOTH, RW, -4096, PG(2),
	  1 },
	{ "copy: half a page", CMD(IOAS_COPY), EINVAL, 2, BOTH, RW, 0, 100, 1 },
	{ "copy: empty", CMD(IOAS_COPY), EINVAL, 2, BOTH, RW, 0, 0, 1 },
	{ "copy: wraps", CMD(IOAS_COPY), EINVAL, 2, BOTH, RW, 0,
	  UINT64_MAX & ~(PAGE - 1), 1 },
	{ "copy: no flags", CMD(IOAS_COPY), EINVAL, 2, 0, RW, 0, PG(1), 1 },
	{ "copy: unknown flag", CMD(IOAS_COPY), EINVAL, 2, 8 | BOTH, RW, 0,
	  PG(1), 1 },
	{ "copy: more than there is", CMD(IOAS_COPY), EPERM, 2, BOTH, RO, 0,
	  PG(1), 1 },
	{ "copy: only writing", CMD(IOAS_COPY), EPERM, 2, VU_IOAS_WRITEABLE, RO,
	  0, PG(1), 1 },
	{ "copy: short", CMD(IOAS_COPY), EINVAL, 2, BOTH, RW, 0, PG(1), 1,
	  .short_by = 8 },
	{ "bind: twice", CMD(BIND), EEXIST },
	{ "bind: unknown flag", CMD(BIND), EINVAL, 0, 1 },
	{ "bind: short", CMD(BIND), EINVAL, .short_by = 4 },
	{ "attach: no such IOAS", CMD(ATTACH_PT), ENOENT, 99 },
	{ "attach: PASID", CMD(ATTACH_PT), ENOTSUP, 2, VU_PT_PASID },
	{ "attach: unknown flag", CMD(ATTACH_PT), EINVAL, 2, 2 },
	{ "attach: short", CMD(ATTACH_PT), EINVAL, 2, .short_by = 4 },
	{ "detach: PASID", CMD(DETACH_PT), ENOTSUP, 0, VU_PT_PASID },
	{ "detach: unknown flag", CMD(DETACH_PT), EINVAL, 0, 2 },
	{ "detach: short", CMD(DETACH_PT), EINVAL, .short_by = 4 },
	{ "legacy map", VU_DMA_MAP, EINVAL, 0, 3, 0, 0x10000, PG(1), 0, MEM },
	{ "legacy unmap", VU_DMA_UNMAP, EINVAL, 0, 0, RW, 0, PG(8) },
	{ "legacy unmap of all", VU_DMA_UNMAP, EINVAL, 0, VU_DMA_UNMAP_ALL },
};

static unsigned
open_fds(enum fd_kind kind, int fds[2])
{
	char path[64];

	switch (kind) {
	case NO_FD:
		return 0;
	case TWO:
		fds[1] = dup(sc.memory);
		fds[0] = dup(sc.memory);
		return 2;
	case MEM:
		fds[0] = dup(sc.memory);
		return 1;
	case PIPE:
		assert_int_equal(pipe(fds), 0);
		close(fds[1]);
		return 1;
	case ZERO:
		fds[0] = open("/dev/zero", O_RDWR | O_CLOEXEC);
		return 1;
	case RDONLY:
	case WRONLY:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", sc.memory);
		fds[0] = open(path, kind == RDONLY ? O_RDONLY : O_WRONLY);
		return 1;
	case SEALED:
		fds[0] = memfd_create("sealed", MFD_ALLOW_SEALING);
		assert_int_equal(ftruncate(fds[0], PG(4)), 0);
		assert_int_equal(fcntl(fds[0], F_ADD_SEALS, F_SEAL_WRITE), 0);
		return 1;
	}
	return 0;
}

static size_t
fill(const struct row *w, void *out)
{
	uint64_t iova = (w->at == RW   ? sc.rw
			 : w->at == RO ? sc.ro
				       : 0) +
			(uint64_t)w->off;
	union {
		struct vu_ioas_id id;
		struct vu_ioas_map map;
		struct vu_ioas_unmap unmap;
		struct vu_ioas_copy copy;
		struct vu_bind bind;
		struct vu_attach attach;
		struct vu_detach detach;
		struct vu_dma_map lmap;
		struct vu_dma_unmap lunmap;
	} u = { 0 };
	size_t len = 16;

	switch (w->cmd) {
	case CMD(ALLOC_IOAS):
	case CMD(DESTROY_IOAS):
		u.id = (struct vu_ioas_id){ 16, w->flags, w->id, 0 };
		break;
	case CMD(IOAS_MAP):
		u.map = (struct vu_ioas_map){
			48, w->flags, w->id, 0, 0, w->len, 0, (uint64_t)w->off
		};
		len = 48;
		break;
	case CMD(IOAS_UNMAP):
		u.unmap = (struct vu_ioas_unmap){ 32, w->flags, w->id,
						  0,  iova,	w->len };
		len = 32;
		break;
	case CMD(IOAS_COPY):
		u.copy = (struct vu_ioas_copy){ 40,   w->flags, w->id, w->dst,
						iova, 0,	w->len };
		len = 40;
		break;
	case CMD(BIND):
		u.bind = (struct vu_bind){ 16, w->flags, -1, 0 };
		break;
	case CMD(ATTACH_PT):
		u.attach = (struct vu_attach){ 16, w->flags, w->id, 0 };
		break;
	case CMD(DETACH_PT):
		u.detach = (struct vu_detach){ 16, w->flags, 0, 0 };
		break;
	case VU_DMA_MAP:
		u.lmap = (struct vu_dma_map){ 32, w->flags, 0, iova, w->len };
		len = 32;
		break;
	case VU_DMA_UNMAP:
		u.lunmap = (struct vu_dma_unmap){ 24, w->flags, iova, w->len };
		len = 24;
		break;
	}
	memcpy(out, &u, sizeof(u));
	return len;
}

static void
test_errors(void **state)
{
	unsigned daemon = daemon_fds(), i, j;
	uint64_t data = sc.v.a[A_DATA].iova;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *w = &rows[i];
		unsigned nfds;
		uint8_t buf[64];
		int fds[2], err;
		size_t len = fill(w, buf);
		uint32_t argsz = (uint32_t)(len - (size_t)w->short_by);

		/* Short by its argsz, and short of bytes. */
		for (j = 0; j < (w->short_by ? 2 : 1); j++) {
			nfds = open_fds(w->fd, fds);
			if (!j)
				memcpy(buf, &argsz, sizeof(argsz));
			err = vu_call(sc.v.c, w->cmd, buf, j ? argsz : len, fds,
				      nfds, NULL);
			if (err != w->want)
				print_error("%s: %s\n", w->name, strerror(err));
			assert_int_equal(err, w->want);
			while (nfds)
				close(fds[--nfds]);
		}
	}
	/* Nothing has changed: this works, and it is all still there. */
	assert_int_equal(vm_io(&sc.v, OPC_READ, 0, 8, data, 0), 0);
	assert_int_equal(vm_unmap_range(&sc.v, 2, sc.rw, PG(8)), 0);
	assert_int_equal(vm_unmap_range(&sc.v, 2, sc.ro, PG(4)), 0);
	assert_int_equal(vm_unmap_range(&sc.v, 2, sc.ro, PG(4)), ENOENT);
	daemon_fds_settle(daemon - 2); /* a file of two views went with them */
}

/* A legacy client may not say any of the eight. */
static void
test_legacy_may_not(void **state)
{
	uint8_t buf[64];
	struct vm l;
	unsigned i;
	int fd = dup(sc.memory);

	vm_start(&l, "vm1", false);
	for (i = VU_IOMMUFD_ALLOC_IOAS; i <= VU_IOMMUFD_DETACH_PT; i++) {
		struct row w = { .cmd = i, .id = 1, .len = PG(1) };
		size_t len = fill(&w, buf);
		int err = vu_call(l.c, i, buf, len, &fd,
				  i == VU_IOMMUFD_IOAS_MAP, NULL);

		assert_int_equal(err, EINVAL);
	}
	assert_int_equal(vm_io(&l, OPC_READ, 0, 8, l.a[A_DATA].iova, 0), 0);
	vm_kill(&l);
	close(fd);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, iom_setup, iom_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_errors),
		TEST(test_legacy_may_not),
	};

	return cmocka_run_group_tests_name("wire iommufd errno", tests,
					   daemon_setup, daemon_teardown);
}
