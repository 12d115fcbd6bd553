/* SPDX-License-Identifier: BSD-3-Clause */
/* The peer's messages and its thread. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "belfry/spec/vfio_user.h"
#include "fake/peer_impl.h"

#define BODY_MAX 8192
#define FDS_MAX 16

struct msg {
	struct vu_hdr hdr;
	uint8_t body[BODY_MAX];
	size_t len;
	int fds[FDS_MAX];
	unsigned nfds;
	/* the reply */
	uint8_t out[BODY_MAX];
	size_t out_len;
	int out_fd;
};

void *
peer_translate(struct peer *p, uint64_t iova, uint64_t len)
{
	for (unsigned i = 0; i < PEER_MAPS; i++)
		if (p->map[i].va && iova >= p->map[i].iova &&
		    range_inside(iova - p->map[i].iova, len, p->map[i].len))
			return p->map[i].va + (iova - p->map[i].iova);
	return NULL;
}

static bool
recv_all(int fd, void *buf, size_t len)
{
	while (len) {
		ssize_t n = recv(fd, buf, len, MSG_WAITALL);

		if (n <= 0)
			return false;
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return true;
}

static bool
recv_msg(struct peer *p, struct msg *m)
{
	char control[CMSG_SPACE(sizeof(m->fds))];
	struct iovec iov = { &m->hdr, sizeof(m->hdr) };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control) };
	struct cmsghdr *cm;

	if (recvmsg(p->fd, &mh, MSG_WAITALL | MSG_CMSG_CLOEXEC) !=
	    sizeof(m->hdr))
		return false;
	m->nfds = 0;
	cm = CMSG_FIRSTHDR(&mh);
	if (cm && cm->cmsg_type == SCM_RIGHTS) {
		m->nfds =
			(unsigned)((cm->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m->fds, CMSG_DATA(cm), m->nfds * sizeof(int));
	}
	m->len = m->hdr.msg_size - sizeof(m->hdr);
	return m->len <= BODY_MAX && recv_all(p->fd, m->body, m->len);
}

static void
send_reply(struct peer *p, struct msg *m, int err)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct vu_hdr hdr = m->hdr;
	struct iovec iov[] = { { &hdr, sizeof(hdr) }, { m->out, m->out_len } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = err ? 1 : 2 };

	hdr.flags = VU_F_REPLY | (err ? VU_F_ERROR : 0);
	hdr.error_no = (uint32_t)-err;
	hdr.msg_size = (uint32_t)(sizeof(hdr) + (err ? 0 : m->out_len));
	if (!err && m->out_fd >= 0) {
		struct cmsghdr *cm;

		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		cm = CMSG_FIRSTHDR(&mh);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &m->out_fd, sizeof(int));
	}
	sendmsg(p->fd, &mh, MSG_NOSIGNAL);
}

static int
version(struct peer *p, struct msg *m)
{
	struct vu_version v = { 0, 1 };

	p->iommufd = p->opts.iommufd && memmem(m->body, m->len, "iommufd", 7);
	memcpy(m->out, &v, sizeof(v));
	m->out_len =
		sizeof(v) + 1 +
		(size_t)sprintf((char *)m->out + sizeof(v),
				"{\"capabilities\":{\"max_msg_fds\":%u%s}}",
				p->opts.max_fds,
				p->iommufd ? ",\"iommufd\":{\"supported\":true}"
					   : "");
	return 0;
}

static int
map(struct peer *p, struct msg *m, uint64_t *iova, uint64_t len, uint64_t off)
{
	void *va;

	for (unsigned i = 0; i < PEER_MAPS; i++) {
		if (p->map[i].va)
			continue;
		if (m->nfds != 1)
			return -EINVAL;
		va = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_POPULATE, m->fds[0], (off_t)off);
		if (va == MAP_FAILED)
			return -errno;
		if (p->iommufd)
			*iova = (uint64_t)(uintptr_t)va;
		p->map[i].va = va;
		p->map[i].iova = *iova;
		p->map[i].len = len;
		p->maps++;
		return 0;
	}
	return -ENOSPC;
}

static int
unmap(struct peer *p, uint64_t iova, uint64_t len)
{
	for (unsigned i = 0; i < PEER_MAPS; i++) {
		if (!p->map[i].va || p->map[i].iova != iova ||
		    p->map[i].len != len)
			continue;
		munmap(p->map[i].va, len);
		p->map[i].va = NULL;
		p->maps--;
		return 0;
	}
	return -ENOENT;
}

static int
region_info(struct peer *p, struct msg *m)
{
	struct vu_region_info info = { 0 };
	size_t len = sizeof(info.info);

	memcpy(&info.info, m->body, sizeof(info.info));
	info.info.argsz = sizeof(info.info);
	info.info.flags = VFIO_REGION_INFO_FLAG_READ |
			  VFIO_REGION_INFO_FLAG_WRITE;
	info.info.size =
		info.info.index == VFIO_PCI_BAR0_REGION_INDEX ? PEER_DB + 4096
		: info.info.index == VFIO_PCI_CONFIG_REGION_INDEX ? 4096
								  : 0;
	if (info.info.index == VFIO_PCI_BAR0_REGION_INDEX && !p->opts.trap) {
		len = info.info.argsz = sizeof(info);
		info.info.flags |= VFIO_REGION_INFO_FLAG_MMAP |
				   VFIO_REGION_INFO_FLAG_CAPS;
		info.info.cap_offset = sizeof(info.info);
		info.cap.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		info.cap.version = 1;
		info.nr_areas = 1;
		info.area.offset = PEER_DB;
		info.area.size = 4096;
		m->out_fd = p->db_fd;
	}
	memcpy(m->out, &info, len);
	m->out_len = len;
	return 0;
}

static int
region_access(struct peer *p, struct msg *m)
{
	bool write = m->hdr.command == VU_REGION_WRITE;
	struct vu_region_access a;
	uint64_t v = 0;

	memcpy(&a, m->body, sizeof(a));
	if (a.count > 4096 || (write && a.count != m->len - sizeof(a)))
		return -EINVAL;
	memcpy(m->out, &a, sizeof(a));
	m->out_len = sizeof(a) + (write ? 0 : a.count);
	if (a.region == VFIO_PCI_CONFIG_REGION_INDEX) {
		if (!range_inside(a.offset, a.count, sizeof(p->config)))
			return -EINVAL;
		if (write)
			memcpy(p->config + a.offset, m->body + sizeof(a),
			       a.count);
		else
			memcpy(m->out + sizeof(a), p->config + a.offset,
			       a.count);
		return 0;
	}
	if (a.region != VFIO_PCI_BAR0_REGION_INDEX || a.count > 8)
		return -EINVAL;
	if (write) {
		memcpy(&v, m->body + sizeof(a), a.count);
		peer_reg_write(p, a.offset, v, a.count);
	} else {
		v = peer_reg_read(p, a.offset);
		memcpy(m->out + sizeof(a), &v, a.count);
	}
	return 0;
}

static int
set_irqs(struct peer *p, struct msg *m)
{
	struct vfio_irq_set s;

	memcpy(&s, m->body, sizeof(s));
	p->irq_messages++;
	if (!s.count) {
		for (unsigned i = 0; i < PEER_IRQS; i++) {
			if (p->irq[i] >= 0)
				close(p->irq[i]);
			p->irq[i] = -1;
		}
		p->irqs = 0;
		return 0;
	}
	if (m->nfds != s.count || m->nfds > p->opts.max_fds ||
	    !range_inside(s.start, s.count, PEER_IRQS))
		return -EINVAL;
	for (unsigned i = 0; i < s.count; i++) {
		p->irq[s.start + i] = m->fds[i];
		p->irqs++;
	}
	m->nfds = 0;
	return 0;
}

static int
iommufd(struct peer *p, struct msg *m)
{
	int err = 0;

	if (!p->iommufd)
		return -EINVAL;
	memcpy(m->out, m->body, m->len);
	switch (m->hdr.command) {
	case VU_IOMMUFD_ALLOC_IOAS: /* argsz 0, as one server has it */
		memset(m->out, 0, 4);
		((struct vu_ioas_id *)m->out)->ioas_id = 1;
		m->out_len = m->len;
		return 0;
	case VU_IOMMUFD_BIND:
		memset(m->out, 0, 4);
		m->out_len = m->len;
		return 0;
	case VU_IOMMUFD_ATTACH_PT:
		p->attached = true;
		return 0;
	case VU_IOMMUFD_IOAS_MAP: {
		struct vu_ioas_map *io = (struct vu_ioas_map *)m->out;
		uint64_t iova;

		err = map(p, m, &iova, io->length, io->offset);
		io->iova = iova;
		m->out_len = m->len;
		return err;
	}
	case VU_IOMMUFD_IOAS_UNMAP: {
		struct vu_ioas_unmap *io = (struct vu_ioas_unmap *)m->out;

		return unmap(p, io->iova, io->length);
	}
	}
	return -ENOTSUP;
}

static int
handle(struct peer *p, struct msg *m)
{
	struct vu_dma_map *dm = (struct vu_dma_map *)m->body;
	struct vu_dma_unmap *du = (struct vu_dma_unmap *)m->body;
	uint64_t iova;

	switch (m->hdr.command) {
	case VU_VERSION:
		return version(p, m);
	case VU_DMA_MAP:
		iova = dm->address;
		return p->iommufd ? -EINVAL
				  : map(p, m, &iova, dm->size, dm->offset);
	case VU_DMA_UNMAP:
		memcpy(m->out, m->body, sizeof(*du));
		m->out_len = sizeof(*du);
		return p->iommufd ? -EINVAL : unmap(p, du->address, du->size);
	case VU_DEVICE_GET_INFO: {
		struct vu_device_info info = { sizeof(info), 3, 9, 5 };

		memcpy(m->out, &info, m->out_len = sizeof(info));
		return 0;
	}
	case VU_DEVICE_GET_REGION_INFO:
		return region_info(p, m);
	case VU_DEVICE_GET_IRQ_INFO: {
		struct vfio_irq_info info = { sizeof(info), 1, 2, PEER_IRQS };

		memcpy(m->out, &info, m->out_len = sizeof(info));
		return 0;
	}
	case VU_DEVICE_SET_IRQS:
		return set_irqs(p, m);
	case VU_REGION_READ:
	case VU_REGION_WRITE:
		return region_access(p, m);
	case VU_DEVICE_RESET:
		peer_nvme_reset(p);
		return 0;
	}
	return m->hdr.command <= VU_IOMMUFD_DETACH_PT ? iommufd(p, m) : -EINVAL;
}

/* False: the client has gone. */
static bool
serve_socket(struct peer *p, struct msg *m, int timeout_ms)
{
	struct pollfd f = { .fd = p->fd, .events = POLLIN };
	int err;

	if (poll(&f, 1, timeout_ms) <= 0)
		return true;
	if (!recv_msg(p, m))
		return false;
	m->out_len = 0;
	m->out_fd = -1;
	err = handle(p, m);
	if (!(m->hdr.flags & VU_F_NO_REPLY))
		send_reply(p, m, err);
	for (unsigned i = 0; i < m->nfds; i++)
		close(m->fds[i]);
	return true;
}

static void *
peer_main(void *arg)
{
	struct peer *p = arg;
	struct msg *m = calloc(1, sizeof(*m));
	unsigned idle = 0, turn = 0;

	if (p->opts.cpu > 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(p->opts.cpu - 1, &set);
		pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
	}
	while (m && !p->stop) {
		idle = peer_nvme_poll(p) ? 0 : idle + 1;
		if (++turn % 1024 && idle < 4096)
			continue;
		if (!serve_socket(p, m, idle < 4096 ? 0 : 1))
			break;
	}
	shutdown(p->fd, SHUT_RDWR);
	free(m);
	return NULL;
}

static void
peer_free(struct peer *p)
{
	for (unsigned i = 0; i < PEER_MAPS; i++)
		if (p->map[i].va)
			munmap(p->map[i].va, p->map[i].len);
	for (unsigned i = 0; i < PEER_IRQS; i++)
		if (p->irq[i] >= 0)
			close(p->irq[i]);
	if (p->db)
		munmap(p->db, 4096);
	if (p->db_fd >= 0)
		close(p->db_fd);
	free(p->store);
	close(p->fd);
	free(p);
}

struct peer *
peer_start(const struct peer_opts *opts, int fd)
{
	struct peer *p = calloc(1, sizeof(*p));
	void *db;

	if (!p)
		return NULL;
	p->fd = fd;
	p->opts = *opts;
	p->opts.max_fds = opts->max_fds ? opts->max_fds : 8;
	p->opts.mqes = opts->mqes ? opts->mqes : 1024;
	p->opts.block_len = opts->block_len ? opts->block_len : 512;
	p->opts.blocks = opts->blocks ? opts->blocks : 2048;
	memset(p->irq, 0xff, sizeof(p->irq));
	p->db_fd = memfd_create("peer-doorbells", MFD_CLOEXEC);
	if (p->db_fd < 0 || ftruncate(p->db_fd, PEER_DB + 4096))
		goto fail;
	db = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, p->db_fd,
		  PEER_DB);
	if (db == MAP_FAILED)
		goto fail;
	p->db = db;
	if (opts->faults & PEER_SHORT_BAR) {
		/* our own mapping of the page goes on living elsewhere */
		munmap(p->db, 4096);
		p->db = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (ftruncate(p->db_fd, PEER_DB + 2048))
			goto fail;
	}
	if (opts->store)
		p->store = calloc(p->opts.blocks, p->opts.block_len);
	peer_nvme_init(p);
	if (pthread_create(&p->thread, NULL, peer_main, p))
		goto fail;
	return p;
fail:
	peer_free(p);
	return NULL;
}

void
peer_stop(struct peer *p)
{
	p->stop = true;
	shutdown(p->fd, SHUT_RDWR);
	pthread_join(p->thread, NULL);
	peer_free(p);
}

void
peer_event(struct peer *p, uint32_t dw0)
{
	p->event = dw0;
	p->have_event = true;
}

uint64_t
peer_ios(const struct peer *p)
{
	return atomic_load_explicit(&((struct peer *)p)->ios,
				    memory_order_relaxed);
}

uint64_t
peer_db_messages(const struct peer *p)
{
	return p->db_messages;
}

unsigned
peer_maps(const struct peer *p)
{
	return p->maps;
}

unsigned
peer_irqs(const struct peer *p)
{
	return p->irqs;
}

unsigned
peer_irq_messages(const struct peer *p)
{
	return p->irq_messages;
}
