/* SPDX-License-Identifier: BSD-3-Clause */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "common_vm.h"

uint64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- what the daemon serves ---- */

void
wire_export(const char *vm, const char *bdev)
{
	char nqn[80], path[64];

	snprintf(nqn, sizeof(nqn), "nqn.2024-01.io.example:%s", vm);
	snprintf(path, sizeof(path), "%s/%s", d.dir, vm);
	assert_int_equal(mkdir(path, 0700), 0);
	json_decref(
		rpc("nvmf_create_subsystem",
		    json_pack("{s:s,s:b}", "nqn", nqn, "allow_any_host", 1)));
	json_decref(rpc("nvmf_subsystem_add_ns",
			json_pack("{s:s,s:{s:s}}", "nqn", nqn, "namespace",
				  "bdev_name", bdev)));
	json_decref(
		rpc("nvmf_subsystem_add_listener",
		    json_pack("{s:s,s:{s:s,s:s}}", "nqn", nqn, "listen_address",
			      "trtype", "VFIOUSER", "traddr", path)));
}

int
wire_file(const char *name, uint64_t len, uint8_t byte)
{
	uint8_t *buf = malloc(65536);
	char path[96];
	uint64_t off;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", d.dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	memset(buf, byte, 65536);
	for (off = 0; off < len; off += 65536)
		assert_int_equal(pwrite(fd, buf, 65536, (off_t)off), 65536);
	free(buf);
	return fd;
}

void
wire_aio(const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", d.dir, name);
	json_decref(rpc("bdev_aio_create",
			json_pack("{s:s,s:s,s:i}", "name", name, "filename",
				  path, "block_size", 512)));
}

bool
wire_uring(const char *name)
{
	char path[96];
	json_t *answer;
	bool made;

	snprintf(path, sizeof(path), "%s/%s", d.dir, name);
	answer = rpc_answer("bdev_uring_create",
			    json_pack("{s:s,s:s,s:i}", "name", name, "filename",
				      path, "block_size", 512));
	made = !rpc_error(answer);
	if (!made && !strstr(rpc_error(answer), "io_uring"))
		fail_msg("bdev_uring_create: %s", rpc_error(answer));
	json_decref(answer);
	return made;
}

void
wire_malloc(const char *name, unsigned blocks)
{
	json_decref(rpc("bdev_malloc_create",
			json_pack("{s:s,s:i,s:i}", "name", name, "block_size",
				  512, "num_blocks", (int)blocks)));
}

void
wire_delay(const char *name, const char *base, unsigned ms)
{
	int us = (int)ms * 1000;

	json_decref(
		rpc("bdev_delay_create",
		    json_pack("{s:s,s:s,s:i,s:i,s:i,s:i}", "name", name,
			      "base_bdev_name", base, "avg_read_latency", us,
			      "p99_read_latency", us, "avg_write_latency", us,
			      "p99_write_latency", us)));
}

uint64_t
daemon_status(const char *name)
{
	char path[32], line[128];
	uint64_t v = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", d.pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) &&
		    line[strlen(name)] == ':')
			v = strtoull(line + strlen(name) + 1, NULL, 10);
	fclose(f);
	return v;
}

unsigned
daemon_maps(void)
{
	char path[32];
	unsigned n = 0;
	FILE *f;
	int c;

	snprintf(path, sizeof(path), "/proc/%d/maps", d.pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* ---- memory ---- */

int
vm_map_fd(struct vm *v, uint32_t ioas, int fd, uint64_t off, uint64_t len,
	  bool read, bool write, uint64_t *iova)
{
	struct vu_ioas_map m = { sizeof(m), 0, ioas, 0, 0, len, 0, off };
	struct vu_dma_map l = { sizeof(l), 0, off, *iova, len };
	struct reply r;
	int err;

	if (!v->iommufd) {
		l.flags = (read ? VU_DMA_MAP_READ : 0) |
			  (write ? VU_DMA_MAP_WRITE : 0);
		return vu_call(v->c, VU_DMA_MAP, &l, sizeof(l), &fd, fd >= 0,
			       NULL);
	}
	m.flags = (read ? VU_IOAS_READABLE : 0) |
		  (write ? VU_IOAS_WRITEABLE : 0);
	err = vu_call(v->c, VU_IOMMUFD_IOAS_MAP, &m, sizeof(m), &fd, fd >= 0,
		      &r);
	if (!err) {
		assert_int_equal(r.len, sizeof(m));
		memcpy(&m, r.data, sizeof(m));
		*iova = m.iova;
	}
	return err;
}

static void
unmap_send(struct vm *v, uint32_t ioas, uint64_t iova, uint64_t len)
{
	struct vu_ioas_unmap u = { sizeof(u), 0, ioas, 0, iova, len };
	struct vu_dma_unmap l = { sizeof(l), 0, iova, len };

	if (v->iommufd)
		vu_send(v->c, VU_IOMMUFD_IOAS_UNMAP, 0, &u, sizeof(u), NULL, 0);
	else
		vu_send(v->c, VU_DMA_UNMAP, 0, &l, sizeof(l), NULL, 0);
}

void
vm_unmap_send(struct vm *v, uint64_t iova, uint64_t len)
{
	unmap_send(v, v->ioas, iova, len);
}

int
vm_unmap_reply(struct vm *v)
{
	struct reply r;

	if (!vu_recv(v->c, &r))
		return -1;
	assert_int_equal(r.hdr.command,
			 v->iommufd ? VU_IOMMUFD_IOAS_UNMAP : VU_DMA_UNMAP);
	return (int)r.hdr.error_no;
}

int
vm_unmap_range(struct vm *v, uint32_t ioas, uint64_t iova, uint64_t len)
{
	unmap_send(v, ioas, iova, len);
	return vm_unmap_reply(v);
}

int
vm_map(struct vm *v, enum area_id id)
{
	struct area *a = &v->a[id];
	int err = vm_map_fd(v, v->ioas, a->fd, 0, a->len, true, true, &a->iova);

	a->mapped = !err;
	return err;
}

int
vm_unmap(struct vm *v, enum area_id id)
{
	struct area *a = &v->a[id];
	int err = vm_unmap_range(v, v->ioas, a->iova, a->len);

	if (!err)
		a->mapped = false;
	return err;
}

static void
area_create(struct area *a, uint64_t len, bool huge)
{
	uint64_t at;

	a->len = huge ? (len + (2 << 20) - 1) & ~(uint64_t)((2 << 20) - 1)
		      : len;
	a->fd = memfd_create("vm", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
	assert_true(a->fd >= 0);
	assert_int_equal(ftruncate(a->fd, (off_t)a->len), 0);
	a->va = mmap(NULL, a->len, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd,
		     0);
	assert_ptr_not_equal(a->va, MAP_FAILED);
	/*
	 * A truncation that comes while the kernel clears a huge page for its first touch misses that page: Linux 6.18 then
	 * puts it behind the end of the file, where it stays mapped and faults no more. So each has its first touch here.
	 */
	for (at = 0; huge && at < a->len; at += 2 << 20)
		*(volatile uint8_t *)(a->va + at) = 0;
}

/* ---- queues ---- */

static unsigned
db_index(unsigned q, bool cq)
{
	return 2 * q + cq;
}

/* Not region_put: we may have been dropped. */
static void
doorbell_message(struct vm *v, unsigned index, uint32_t value)
{
	struct {
		struct vu_region_access a;
		uint32_t value;
	} m = { { 0x1000 + 4 * index, 0, 4 }, value };
	struct reply r;

	vu_send(v->c, VU_REGION_WRITE, 0, &m, sizeof(m), NULL, 0);
	vu_recv(v->c, &r);
}

static void
doorbell(struct vm *v, unsigned index, unsigned value)
{
	uint32_t *shadow = (uint32_t *)v->a[A_SHADOW].va;

	if (v->shadow && index >= 2) {
		__atomic_store_n(&shadow[index], value, __ATOMIC_RELEASE);
		if (index & 1)
			return;
		/* Without a look at the event index: told once too often. */
	}
	if (v->db)
		__atomic_store_n(v->db + index, value, __ATOMIC_RELEASE);
	else
		doorbell_message(v, index, value);
}

static uint8_t *
ring_sq(struct vm *v, unsigned q)
{
	return q ? v->a[A_SQ].va : v->a[A_ADMIN].va;
}

static uint8_t *
ring_cq(struct vm *v, unsigned q)
{
	return q ? v->a[A_CQ].va : v->a[A_ADMIN].va + PAGE;
}

uint16_t
vm_push(struct vm *v, unsigned q, struct sqe *e)
{
	e->cid = ++v->cid;
	memcpy(ring_sq(v, q) + v->q[q].tail * sizeof(*e), e, sizeof(*e));
	v->q[q].tail = (v->q[q].tail + 1) % DEPTH;
	return e->cid;
}

void
vm_ring(struct vm *v, unsigned q)
{
	doorbell(v, db_index(q, false), v->q[q].tail);
}

bool
vm_poll(struct vm *v, unsigned q, struct cqe *out)
{
	struct cqe *c = (struct cqe *)ring_cq(v, q) + v->q[q].head;

	if ((__atomic_load_n(&c->status, __ATOMIC_ACQUIRE) & 1) !=
	    v->q[q].phase)
		return false;
	*out = *c;
	v->q[q].head = (v->q[q].head + 1) % DEPTH;
	if (!v->q[q].head)
		v->q[q].phase ^= 1;
	doorbell(v, db_index(q, true), v->q[q].head);
	return true;
}

int
vm_wait(struct vm *v, unsigned q, unsigned ms, struct cqe *out)
{
	uint64_t end = now_us() + ms * 1000ull;
	struct cqe own;

	out = out ? out : &own;
	while (!vm_poll(v, q, out)) {
		if (now_us() >= end)
			return -1;
		usleep(20);
	}
	return out->status >> 1 & 0x7ff;
}

int
vm_admin(struct vm *v, struct sqe *e, unsigned ms)
{
	vm_push(v, 0, e);
	vm_ring(v, 0);
	return vm_wait(v, 0, ms, NULL);
}

void
vm_io_push(struct vm *v, unsigned opc, uint64_t lba, unsigned nlb,
	   uint64_t prp1, uint64_t prp2)
{
	struct sqe e = { .opc = (uint8_t)opc,
			 .nsid = 1,
			 .prp1 = prp1,
			 .prp2 = prp2,
			 .dw10 = (uint32_t)lba,
			 .dw11 = (uint32_t)(lba >> 32),
			 .dw12 = nlb - 1 };

	vm_push(v, 1, &e);
	vm_ring(v, 1);
}

int
vm_io(struct vm *v, unsigned opc, uint64_t lba, unsigned nlb, uint64_t prp1,
      uint64_t prp2)
{
	vm_io_push(v, opc, lba, nlb, prp1, prp2);
	return vm_wait(v, 1, 10000, NULL);
}

bool
vm_dropped(struct vm *v, unsigned ms)
{
	struct pollfd p = { v->c, 0, 0 };

	return poll(&p, 1, (int)ms) == 1 && (p.revents & POLLHUP);
}

uint32_t
vm_csts(struct vm *v)
{
	struct vu_region_access a = { 0x1c, 0, 4 };
	struct reply r;
	uint32_t csts;

	vu_send(v->c, VU_REGION_READ, 0, &a, sizeof(a), NULL, 0);
	if (!vu_recv(v->c, &r) || r.hdr.error_no)
		return ~0u;
	memcpy(&csts, r.data + sizeof(a), sizeof(csts));
	return csts;
}

void
vm_use_shadow(struct vm *v)
{
	struct sqe e = { .opc = 0x7c,
			 .prp1 = v->a[A_SHADOW].iova,
			 .prp2 = v->a[A_SHADOW].iova + PAGE };
	uint32_t *s = (uint32_t *)v->a[A_SHADOW].va;

	s[db_index(1, false)] = v->q[1].tail;
	s[db_index(1, true)] = v->q[1].head;
	assert_int_equal(vm_admin(v, &e, 10000), 0);
	v->shadow = true;
}

void
vm_more_queues(struct vm *v, unsigned n, bool interrupts)
{
	struct sqe cq = { .opc = 5, .prp1 = v->a[A_CQ].iova };
	struct sqe sq = { .opc = 1, .prp1 = v->a[A_SQ].iova };
	unsigned i;

	cq.dw11 = interrupts ? 3 : 1;
	for (i = 2; i <= n; i++) {
		cq.dw10 = sq.dw10 = (DEPTH - 1) << 16 | i;
		sq.dw11 = i << 16 | 1;
		assert_int_equal(vm_admin(v, &cq, 10000), 0);
		assert_int_equal(vm_admin(v, &sq, 10000), 0);
	}
}

void
vm_fill_queues(struct vm *v, const struct sqe *e)
{
	unsigned i;

	for (i = 0; i < DEPTH; i++)
		memcpy(v->a[A_SQ].va + i * sizeof(*e), e, sizeof(*e));
}

/* ---- all of it ---- */

int
vu_open_wait(const char *vm, const char *json)
{
	uint64_t end = now_ms() + 10000;
	struct reply r;
	int c;

	for (;;) {
		c = vu_connect(vm);
		vu_hello(c, json);
		if (vu_recv(c, &r) && !r.hdr.error_no)
			return c;
		assert_int_equal(r.hdr.error_no, EBUSY);
		assert_true(now_ms() < end);
		close(c);
		usleep(1000);
	}
}

static void
map_doorbells(struct vm *v)
{
	struct vu_region_info info = { .info = { .argsz = sizeof(info),
						 .index = 0 } };
	struct reply r;
	void *p;

	assert_int_equal(vu_call(v->c, VU_DEVICE_GET_REGION_INFO, &info,
				 sizeof(info), NULL, 0, &r),
			 0);
	if (r.len == sizeof(info.info))
		return; /* not to be mapped: rung by messages */
	assert_int_equal(r.len, sizeof(info));
	memcpy(&info, r.data, sizeof(info));
	assert_true(r.fd >= 0 && info.nr_areas == 1);
	assert_int_equal(info.area.offset, 0x1000);
	p = mmap(NULL, info.area.size, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd,
		 (off_t)(info.info.offset + info.area.offset));
	assert_ptr_not_equal(p, MAP_FAILED);
	close(r.fd);
	v->db = p;
}

static void
iommufd_setup(struct vm *v)
{
	struct vu_ioas_id id = { sizeof(id), 0, 0, 0 };
	struct vu_bind bind = { sizeof(bind), 0, -1, 0 };
	struct vu_attach at = { sizeof(at), 0, 0, 0 };
	struct reply r;

	assert_int_equal(vu_call(v->c, VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id),
				 NULL, 0, &r),
			 0);
	memcpy(&id, r.data, sizeof(id));
	at.pt_id = v->ioas = id.ioas_id;
	assert_int_equal(vu_call(v->c, VU_IOMMUFD_BIND, &bind, sizeof(bind),
				 NULL, 0, NULL),
			 0);
	assert_int_equal(vu_call(v->c, VU_IOMMUFD_ATTACH_PT, &at, sizeof(at),
				 NULL, 0, NULL),
			 0);
}

static void
controller_start(struct vm *v)
{
	struct sqe cq = { .opc = 5, .dw11 = 3 }, sq = { .opc = 1 };
	uint64_t end = now_ms() + 10000;

	region_put(v->c, 0, 0x24, (DEPTH - 1) << 16 | (DEPTH - 1), 4);
	region_put(v->c, 0, 0x28, v->a[A_ADMIN].iova, 8);
	region_put(v->c, 0, 0x30, v->a[A_ADMIN].iova + PAGE, 8);
	region_put(v->c, 0, 0x14, 4 << 20 | 6 << 16 | 1, 4);
	while (!(vm_csts(v) & CSTS_RDY)) {
		assert_true(now_ms() < end);
		usleep(500);
	}
	cq.prp1 = v->a[A_CQ].iova;
	sq.prp1 = v->a[A_SQ].iova;
	cq.dw10 = sq.dw10 = (DEPTH - 1) << 16 | 1;
	sq.dw11 = 1 << 16 | 1;
	assert_int_equal(vm_admin(v, &cq, 10000), 0);
	assert_int_equal(vm_admin(v, &sq, 10000), 0);
}

void
vm_start_at(struct vm *v, const char *where, bool iommufd, uint64_t base,
	    bool huge)
{
	static const uint64_t len[AREAS] = { 2 * PAGE,	PAGE,	  PAGE,
					     16 * PAGE, 2 * PAGE, 1 << 20 };
	unsigned i;

	memset(v, 0, sizeof(*v));
	v->iommufd = iommufd;
	v->q[0].phase = v->q[1].phase = 1;
	v->c = vu_open_wait(where, iommufd ? IOMMUFD_JSON : QEMU_JSON);
	if (iommufd)
		iommufd_setup(v);
	for (i = 0; i < AREAS; i++) {
		area_create(&v->a[i], len[i], huge);
		v->a[i].iova = base + i * (4ull << 20);
		assert_int_equal(vm_map(v, (enum area_id)i), 0);
	}
	map_doorbells(v);
	controller_start(v);
}

void
vm_start(struct vm *v, const char *where, bool iommufd)
{
	vm_start_at(v, where, iommufd, LEGACY_BASE, false);
}

void
vm_kill(struct vm *v)
{
	unsigned i;

	if (v->c <= 0)
		return;
	close(v->c);
	v->c = 0;
	if (v->db)
		munmap((void *)v->db, 0x1000);
	for (i = 0; i < AREAS && v->a[i].va; i++) {
		munmap(v->a[i].va, v->a[i].len);
		close(v->a[i].fd);
	}
}
