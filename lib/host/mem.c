/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that the controller reaches: memfds and files of the caller, told to the
 * server. Not for what lies in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define HUGE_PAGE (2ull << 20)

static struct mem_node *
node_of(struct belfry_mem *m)
{
	return container_of(m, struct mem_node, m);
}

static void
node_free(struct mem_node *n)
{
	list_remove(&n->node);
	if (n->m.va)
		munmap(n->m.va, n->m.len);
	if (n->own_fd)
		close(n->m.fd);
	free(n);
}

static int
map_legacy(struct belfry_host *h, struct belfry_mem *m, uint64_t off,
	   unsigned prot)
{
	uint32_t flags = (prot & BELFRY_MEM_READ ? VU_DMA_MAP_READ : 0) |
			 (prot & BELFRY_MEM_WRITE ? VU_DMA_MAP_WRITE : 0);

	return vuc_dma_map(h->vuc, m->fd, off, m->iova, m->len, flags);
}

static int
map_iommufd(struct belfry_host *h, struct belfry_mem *m, uint64_t off,
	    unsigned prot)
{
	uint32_t flags = (prot & BELFRY_MEM_READ ? VU_IOAS_READABLE : 0) |
			 (prot & BELFRY_MEM_WRITE ? VU_IOAS_WRITEABLE : 0);

	return vuc_ioas_map(h->vuc, h->ioas_id, m->fd, off, m->len, flags,
			    &m->iova);
}

/* Tell the server of @n, and put it into the list. */
static int
node_map(struct belfry_host *h, struct mem_node *n, uint64_t off, unsigned prot)
{
	int err = h->mode == BELFRY_IOMMUFD ? map_iommufd(h, &n->m, off, prot)
					    : map_legacy(h, &n->m, off, prot);

	if (!err)
		list_push_back(&h->mems, &n->node);
	return err;
}

static int
check_prot(unsigned prot)
{
	return prot && !(prot & ~(BELFRY_MEM_READ | BELFRY_MEM_WRITE))
		       ? 0
		       : -EINVAL;
}

/* A memfd of @len bytes that nobody can shrink, mapped. */
static int
make_memfd(struct belfry_mem *m, size_t len, bool huge)
{
	int err;

	m->fd = memfd_create("belfry-host",
			     MFD_CLOEXEC | MFD_ALLOW_SEALING |
				     (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, (off_t)len) ||
	    fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		goto close_fd;
	m->va = mmap(NULL, len, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, m->fd, 0);
	if (m->va == MAP_FAILED)
		goto close_fd;
	m->len = len;
	return 0;
close_fd:
	err = -errno;
	close(m->fd);
	m->va = NULL;
	return err;
}

int
belfry_mem_alloc(struct belfry_host *h, size_t len, unsigned prot,
		 struct belfry_mem **out)
{
	size_t page = h->opts.huge_pages ? HUGE_PAGE : NVME_PAGE;
	struct mem_node *n;
	uint64_t align;
	int err = check_prot(prot);

	if (err || !len || len > (1ull << 46))
		return -EINVAL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	err = make_memfd(&n->m, align_up(len, page), h->opts.huge_pages);
	if (err) {
		free(n);
		return err;
	}
	n->own_fd = true;
	align = n->m.len >= HUGE_PAGE ? HUGE_PAGE : NVME_PAGE;
	n->m.iova = align_up(h->next_iova, align);
	h->next_iova = n->m.iova + n->m.len; /* never used again */
	err = node_map(h, n, 0, prot);
	if (err) {
		list_init(&n->node);
		node_free(n);
		return err;
	}
	*out = &n->m;
	return 0;
}

int
belfry_mem_map_fd(struct belfry_host *h, int fd, uint64_t off, size_t len,
		  uint64_t iova, unsigned prot, struct belfry_mem **out)
{
	struct mem_node *n;
	int err = check_prot(prot);

	if (err)
		return err;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	n->m = (struct belfry_mem){ .iova = iova, .len = len, .fd = fd };
	err = node_map(h, n, off, prot);
	if (err) {
		free(n);
		return err;
	}
	*out = &n->m;
	return 0;
}

/* The request of an unmap, in either mode. */
struct unmap_req {
	struct vuc_msg msg;
	union {
		struct vu_ioas_unmap ioas;
		struct vu_dma_unmap dma;
	};
	uint8_t reply[64];
};

static void
unmap_fill(const struct belfry_host *h, const struct belfry_mem *m,
	   struct unmap_req *u)
{
	memset(u, 0, sizeof(*u));
	if (h->mode == BELFRY_IOMMUFD) {
		u->ioas.argsz = sizeof(u->ioas);
		u->ioas.ioas_id = h->ioas_id;
		u->ioas.iova = m->iova;
		u->ioas.length = m->len;
		u->msg.command = VU_IOMMUFD_IOAS_UNMAP;
		u->msg.req_len = sizeof(u->ioas);
	} else {
		u->dma.argsz = sizeof(u->dma);
		u->dma.address = m->iova;
		u->dma.size = m->len;
		u->msg.command = VU_DMA_UNMAP;
		u->msg.req_len = sizeof(u->dma);
	}
	u->msg.req = &u->ioas;
	u->msg.reply = u->reply;
	u->msg.reply_max = sizeof(u->reply);
}

int
belfry_mem_free_begin(struct belfry_host *h, struct belfry_mem *m)
{
	struct unmap_req u;

	unmap_fill(h, m, &u);
	return vuc_send(h->vuc, &u.msg, 0, &node_of(m)->unmap_id);
}

int
belfry_mem_free_end(struct belfry_host *h, struct belfry_mem *m,
		    unsigned timeout_ms)
{
	struct unmap_req u;
	int err;

	unmap_fill(h, m, &u);
	err = vuc_wait(h->vuc, node_of(m)->unmap_id, &u.msg, timeout_ms);
	if (err != -ETIMEDOUT)
		node_free(node_of(m));
	return err;
}

int
belfry_mem_free(struct belfry_host *h, struct belfry_mem *m)
{
	struct unmap_req u;
	int err;

	if (!m)
		return 0;
	unmap_fill(h, m, &u);
	err = vuc_call(h->vuc, &u.msg, 0);
	if (err != -ETIMEDOUT && err != -EBUSY)
		node_free(node_of(m));
	return err;
}

void
mem_release_all(struct belfry_host *h)
{
	while (!list_empty(&h->mems))
		node_free(list_first(&h->mems, struct mem_node, node));
}
