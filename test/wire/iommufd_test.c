/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands 19 to 26 at a real daemon: the errno of each failure, that nothing is half done then, and I/O through
 * addresses that the server chose.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "common_vm.h"

#define PG(n) ((n)*PAGE)

/* The scene: IOAS 1 attached, with the areas of a machine. IOAS 2: 8 pages, and 4 of read-only ones. */
static struct vm v;
static uint64_t rw, ro;
static int memory;

static int
call(unsigned cmd, const void *payload, size_t len, struct reply *r)
{
	return vu_call(v.c, cmd, payload, len, NULL, 0, r);
}

static uint32_t
alloc_ioas(void)
{
	struct vu_ioas_id id = { sizeof(id), 0, 77, 0 };
	struct reply r;

	assert_int_equal(call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), &r), 0);
	assert_int_equal(r.len, sizeof(id));
	memcpy(&id, r.data, sizeof(id));
	assert_int_equal(id.argsz, sizeof(id));
	return id.ioas_id;
}

static int
by_id(unsigned cmd, uint32_t id)
{
	struct vu_ioas_id p = { sizeof(p), 0, id, 0 };

	return call(cmd, &p, sizeof(p), NULL);
}

static int
attach(uint32_t id)
{
	struct vu_attach p = { sizeof(p), 0, id, 0 };

	return call(VU_IOMMUFD_ATTACH_PT, &p, sizeof(p), NULL);
}

static int
detach(void)
{
	struct vu_detach p = { sizeof(p), 0, 0, 0 };

	return call(VU_IOMMUFD_DETACH_PT, &p, sizeof(p), NULL);
}

static int
copy(uint32_t src, uint64_t iova, uint64_t len, uint32_t dst, uint32_t flags,
     uint64_t *out)
{
	struct vu_ioas_copy p = {
		sizeof(p), flags, src, dst, iova, 0x5000, len
	};
	struct reply r;
	int err = call(VU_IOMMUFD_IOAS_COPY, &p, sizeof(p), &r);

	if (!err) {
		assert_int_equal(r.len, sizeof(p));
		memcpy(&p, r.data, sizeof(p));
		*out = p.dst_iova;
	}
	return err;
}

static int
setup(void **state)
{
	vm_start(&v, "vm0", true);
	assert_int_equal(v.ioas, 1);
	assert_int_equal(alloc_ioas(), 2);
	memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(memory, PG(16)), 0);
	assert_int_equal(vm_map_fd(&v, 2, memory, 0, PG(8), true, true, &rw),
			 0);
	assert_int_equal(
		vm_map_fd(&v, 2, memory, PG(8), PG(4), true, false, &ro), 0);
	return 0;
}

static int
teardown(void **state)
{
	vm_kill(&v);
	close(memory);
	return 0;
}

/* ---- the errno of each failure ---- */

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
#define BOTH (VU_IOAS_READABLE | VU_IOAS_WRITEABLE)
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
		fds[1] = dup(memory);
		fds[0] = dup(memory);
		return 2;
	case MEM:
		fds[0] = dup(memory);
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
		snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
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
	uint64_t iova = (w->at == RW   ? rw
			 : w->at == RO ? ro
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
	uint64_t data = v.a[A_DATA].iova;

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
			err = vu_call(v.c, w->cmd, buf, j ? argsz : len, fds,
				      nfds, NULL);
			if (err != w->want)
				print_error("%s: %s\n", w->name, strerror(err));
			assert_int_equal(err, w->want);
			while (nfds)
				close(fds[--nfds]);
		}
	}
	/* Nothing has changed: this works, and it is all still there. */
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, data, 0), 0);
	assert_int_equal(vm_unmap_range(&v, 2, rw, PG(8)), 0);
	assert_int_equal(vm_unmap_range(&v, 2, ro, PG(4)), 0);
	assert_int_equal(vm_unmap_range(&v, 2, ro, PG(4)), ENOENT);
	daemon_fds_settle(daemon - 2); /* a file of two views went with them */
}

/* A legacy client may not say any of the eight. */
static void
test_legacy_may_not(void **state)
{
	uint8_t buf[64];
	struct vm l;
	unsigned i;
	int fd = dup(memory);

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

/* ---- addresses ---- */

/* Any file offset: the address has its place within the page, and reaches those bytes. */
static void
test_offsets(void **state)
{
	static const struct {
		uint64_t off, len;
	} at[] = { { 0, PG(1) },	 { PG(3), PG(2) },  { 512, PG(1) },
		   { 4095, PG(3) },	 { PG(15), PG(1) }, { 0, PG(16) },
		   { PG(1) + 8, PG(14) } };
	uint8_t *p = mmap(NULL, PG(16), PROT_READ | PROT_WRITE, MAP_SHARED,
			  memory, 0);
	unsigned i, j;

	assert_ptr_not_equal(p, MAP_FAILED);
	for (i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint64_t iova, dw = (at[i].off + 3) & ~3ull;

		for (j = 0; j < PG(16); j++)
			p[j] = (uint8_t)(j * 7 + j / 4096);
		assert_int_equal(vm_map_fd(&v, v.ioas, memory, at[i].off,
					   at[i].len, true, true, &iova),
				 0);
		assert_int_equal(iova % PAGE, at[i].off % PAGE);
		/* A PRP wants a multiple of four. Write these 512 bytes, and read them back elsewhere. */
		iova += dw - at[i].off;
		assert_int_equal(vm_io(&v, OPC_WRITE, i, 1, iova,
				       (iova | (PAGE - 1)) + 1),
				 0);
		memset(v.a[A_DATA].va, 0, 512);
		assert_int_equal(vm_io(&v, OPC_READ, i, 1, v.a[A_DATA].iova, 0),
				 0);
		assert_memory_equal(v.a[A_DATA].va, p + dw, 512);
		iova -= dw - at[i].off;
		assert_int_equal(vm_unmap_range(&v, v.ioas, iova, at[i].len),
				 0);
	}
	munmap(p, PG(16));
}

static void
test_copies(void **state)
{
	uint64_t a, b, c;
	uint8_t *p = mmap(NULL, PG(16), PROT_READ | PROT_WRITE, MAP_SHARED,
			  memory, 0);

	/* Not where it is attached: an address of IOAS 2 means nothing to the device. */
	memset(p, 0x21, PG(16));
	assert_int_equal(vm_io(&v, OPC_WRITE, 0, 8, rw, 0), ST_DATA_XFER);
	assert_int_equal(copy(2, rw + PG(2), PG(4), 1, BOTH, &a), 0);
	assert_true(a != rw + PG(2));
	memset(p + PG(2), 0x5c, PG(1));
	assert_int_equal(vm_io(&v, OPC_WRITE, 0, 8, a, 0), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, a + PG(3), 0), 0);
	assert_memory_equal(p + PG(2), p + PG(5), PAGE);
	/* Read-only: the device may fetch data from it, not put any there. */
	assert_int_equal(copy(2, ro, PG(4), 1, VU_IOAS_READABLE, &b), 0);
	assert_int_equal(vm_io(&v, OPC_WRITE, 0, 8, b, 0), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, b, 0), ST_DATA_XFER);
	assert_int_equal(p[PG(8)], 0x21);
	/* Write-only, the other way round. */
	assert_int_equal(copy(1, a, PG(4), 1, VU_IOAS_WRITEABLE, &c), 0);
	assert_int_equal(vm_io(&v, OPC_WRITE, 0, 8, c, 0), ST_DATA_XFER);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, c, 0), 0);
	/* The copy outlives its origin. */
	assert_int_equal(vm_unmap_range(&v, 2, rw, PG(8)), 0);
	assert_int_equal(vm_unmap_range(&v, 1, a, PG(4)), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, c, 0), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, a, 0), ST_DATA_XFER);
	munmap(p, PG(16));
}

/* One unmap covers several; UNMAP_ALL takes what is left, and nothing is fine, too. */
static void
test_unmap_many(void **state)
{
	struct vu_ioas_unmap all = { sizeof(all), VU_IOAS_UNMAP_ALL, 2 };
	uint64_t low = UINT64_MAX, high = 0, iova;
	unsigned i;

	assert_int_equal(call(VU_IOMMUFD_IOAS_UNMAP, &all, sizeof(all), NULL),
			 0);
	for (i = 0; i < 100; i++) {
		assert_int_equal(vm_map_fd(&v, 2, memory, PG(i % 8), PG(2),
					   true, i & 1, &iova),
				 0);
		low = iova < low ? iova : low;
		high = iova > high ? iova : high;
	}
	assert_int_equal(vm_unmap_range(&v, 2, low, high - low + PG(1)),
			 ENOENT); /* would split the last */
	assert_int_equal(vm_unmap_range(&v, 2, low, high - low + PG(2)), 0);
	assert_int_equal(vm_unmap_range(&v, 2, low, high - low + PG(2)),
			 ENOENT);
	for (i = 0; i < 50; i++)
		assert_int_equal(vm_map_fd(&v, 2, memory, 0, PG(16), true, true,
					   &iova),
				 0);
	for (i = 0; i < 2; i++)
		assert_int_equal(call(VU_IOMMUFD_IOAS_UNMAP, &all, sizeof(all),
				      NULL),
				 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0), 0);
}

/* ---- attachment ---- */

/*
 * Detached, the device is blind: a command in the ring is not fetched, for its queue's memory is away. Attached again,
 * what stands is replayed: the queue goes on.
 */
static void
test_detach_and_back(void **state)
{
	uint64_t data = v.a[A_DATA].iova;
	unsigned i;

	for (i = 0; i < 20; i++) {
		assert_int_equal(detach(), 0);
		assert_int_equal(detach(), EINVAL);
		memset(v.a[A_DATA].va, 0xee, PAGE);
		vm_io_push(&v, OPC_READ, 0, 8, data, 0);
		assert_int_equal(vm_wait(&v, 1, 20, NULL), -1);
		assert_int_equal(v.a[A_DATA].va[17], 0xee);
		assert_int_equal(attach(1), 0);
		assert_int_equal(attach(1), 0); /* again: it is */
		assert_int_equal(vm_wait(&v, 1, 5000, NULL), 0);
	}
	assert_int_equal(vm_csts(&v), CSTS_RDY);
}

/* The rings in both, the data in one of two: where it is not, Data Transfer Error. */
static void
test_reattach(void **state)
{
	uint64_t sq, cq, admin, data = v.a[A_DATA].iova;
	unsigned i;

	/* Other addresses: so the controller has to be set up in IOAS 2 from the start. */
	assert_int_equal(attach(2), 0);
	assert_int_equal(by_id(VU_IOMMUFD_DESTROY_IOAS, 2), EBUSY);
	region_put(v.c, 0, 0x14, 0, 4);
	for (i = 0; i < 1000 && (vm_csts(&v) & CSTS_RDY); i++)
		usleep(1000);
	assert_int_equal(vm_csts(&v), 0);
	assert_int_equal(copy(1, v.a[A_ADMIN].iova, PG(2), 2, BOTH, &admin), 0);
	assert_int_equal(copy(1, v.a[A_SQ].iova, PG(1), 2, BOTH, &sq), 0);
	assert_int_equal(copy(1, v.a[A_CQ].iova, PG(1), 2, BOTH, &cq), 0);
	for (i = 0; i < 2; i++) {
		memset(v.a[i].va, 0, v.a[i].len);
		v.q[i].tail = v.q[i].head = 0;
		v.q[i].phase = 1;
	}
	memset(v.a[A_CQ].va, 0, PAGE);
	region_put(v.c, 0, 0x28, admin, 8);
	region_put(v.c, 0, 0x30, admin + PAGE, 8);
	region_put(v.c, 0, 0x14, 4 << 20 | 6 << 16 | 1, 4);
	for (i = 0; i < 1000 && !(vm_csts(&v) & CSTS_RDY); i++)
		usleep(1000);
	{
		struct sqe c = { .opc = 5,
				 .prp1 = cq,
				 .dw10 = (DEPTH - 1) << 16 | 1,
				 .dw11 = 1 };
		struct sqe s = { .opc = 1,
				 .prp1 = sq,
				 .dw10 = (DEPTH - 1) << 16 | 1,
				 .dw11 = 1 << 16 | 1 };

		assert_int_equal(vm_admin(&v, &c, 5000), 0);
		assert_int_equal(vm_admin(&v, &s, 5000), 0);
	}
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, rw, 0), 0);
	memset(v.a[A_DATA].va, 0x77, PAGE);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, data, 0), ST_DATA_XFER);
	assert_int_equal(v.a[A_DATA].va[0], 0x77);
	assert_int_equal(by_id(VU_IOMMUFD_DESTROY_IOAS, 1), 0);
	assert_int_equal(by_id(VU_IOMMUFD_DESTROY_IOAS, 1), ENOENT);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, rw, 0), 0);
	assert_int_equal(alloc_ioas(), 3); /* ids are not used again */
}

static void
test_many_spaces(void **state)
{
	struct vu_ioas_id id = { sizeof(id), 0, 0, 0 };
	static struct neighbour n;
	unsigned got = 0, i;

	neighbour_start(&n, "vm1");
	for (i = 0; i < 1000; i++) {
		int err = call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), NULL);

		assert_true(!err || err == ENOSPC);
		assert_true(err || got == i); /* once over quota, always */
		got += !err;
	}
	assert_int_equal(got, 62); /* of 64: two were there */
	assert_int_equal(by_id(VU_IOMMUFD_DESTROY_IOAS, 2), 0);
	assert_int_equal(call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), NULL), 0);
	assert_int_equal(vm_io(&v, OPC_READ, 0, 8, v.a[A_DATA].iova, 0), 0);
	neighbour_stop(&n);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_errors),     TEST(test_legacy_may_not),
		TEST(test_offsets),    TEST(test_copies),
		TEST(test_unmap_many), TEST(test_detach_and_back),
		TEST(test_reattach),   TEST(test_many_spaces),
	};

	return cmocka_run_group_tests_name("wire iommufd", tests, daemon_setup,
					   daemon_teardown);
}
