/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vfio_user_client: the client's side of vfio-user: messages out, replies in. lib/host stands on it; tests use it raw.
 *
 * The server is not trusted: lengths, counts, offsets and descriptors of replies are checked. A stream that breaks the
 * protocol is given up (-EPROTO, and so for every later call); a reply that is merely late is dropped when it comes.
 *
 * Thread: any, a lock inside; a call holds it until its reply is in or its time is over.
 * Errors: -errno that the server answered; -EPROTO; -ETIMEDOUT; -ECONNRESET: the server has gone.
 * Lifetime: descriptors handed in are borrowed, those handed out are the caller's.
 */
#ifndef BELFRY_VFIO_USER_CLIENT_H
#define BELFRY_VFIO_USER_CLIENT_H

#include "belfry/vfio_user.h"

struct vuc;

#define VUC_MAX_FDS 16
#define VUC_MAX_AREAS 16

enum vuc_want { VUC_LEGACY, VUC_IOMMUFD, VUC_EITHER };

/*
 * Connect to @path and negotiate. -EPROTONOSUPPORT: VUC_IOMMUFD, and the server does not offer it.
 * vuc_attach does the same on a connected socket, and takes @fd in every case.
 */
int vuc_connect(const char *path, enum vuc_want want, unsigned timeout_ms,
		struct vuc **out);
int vuc_attach(int fd, enum vuc_want want, unsigned timeout_ms,
	       struct vuc **out);
void vuc_close(struct vuc *c);
/* Of calls from now on that name none. */
void vuc_set_timeout(struct vuc *c, unsigned timeout_ms);
int vuc_fd(const struct vuc *c);
const struct vu_caps *vuc_caps(const struct vuc *c);
/* iommufd mode: both sides said so. */
bool vuc_iommufd(const struct vuc *c);

/* One message: the request is @req and then @data; the reply's payload must have reply_min to reply_max bytes. */
struct vuc_msg {
	uint16_t command;
	const void *req, *data;
	size_t req_len, data_len;
	const int *fds;
	unsigned nfds;
	bool posted; /* no reply is wanted: for vuc_send alone, without vuc_wait */
	void *reply;
	size_t reply_min, reply_max;
	size_t reply_len;    /* out */
	int *reply_fds;	     /* VUC_MAX_FDS of them, or NULL: closed */
	unsigned reply_nfds; /* out */
};

/* @timeout_ms 0: that of the connection. */
int vuc_call(struct vuc *c, struct vuc_msg *m, unsigned timeout_ms);
/*
 * The two halves of vuc_call. Replies come in the order of the requests: vuc_wait is for the oldest one sent (-EINVAL for
 * another), and vuc_call is -EBUSY meanwhile. After -ETIMEDOUT the reply will be dropped.
 */
int vuc_send(struct vuc *c, const struct vuc_msg *m, unsigned timeout_ms,
	     uint16_t *id);
int vuc_wait(struct vuc *c, uint16_t id, struct vuc_msg *m,
	     unsigned timeout_ms);

/* A region and its mappable areas; fd[i] is area i's, -1: none. The caller closes them (vuc_region_release). */
struct vuc_region {
	uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
	uint64_t len;
	unsigned nareas;
	struct {
		uint64_t off, len; /* in the region */
		uint64_t fd_off;   /* for mmap() */
		int fd;
	} area[VUC_MAX_AREAS];
};
int vuc_device_info(struct vuc *c, struct vu_device_info *out);
int vuc_region_info(struct vuc *c, unsigned index, struct vuc_region *out);
void vuc_region_release(struct vuc_region *r);
int vuc_region_read(struct vuc *c, unsigned index, uint64_t off, void *buf,
		    uint32_t len);
int vuc_region_write(struct vuc *c, unsigned index, uint64_t off,
		     const void *buf, uint32_t len);
/* Posted: for up to 64 bytes. 0: it is under way, and the server tells nothing of it, not even that it refused. */
int vuc_region_post(struct vuc *c, unsigned index, uint64_t off,
		    const void *buf, uint32_t len);
/* How many interrupts the index has; < 0: -errno. */
int vuc_irq_count(struct vuc *c, unsigned index);
/* Bind vectors 0 to n - 1, in as many messages as the server's max_msg_fds asks for; n == 0: disable the index. */
int vuc_set_irqs(struct vuc *c, unsigned index, const int *fds, unsigned n);
int vuc_reset(struct vuc *c);

/* Legacy mode; @prot: VU_DMA_MAP_READ, _WRITE. */
int vuc_dma_map(struct vuc *c, int fd, uint64_t off, uint64_t iova,
		uint64_t len, uint32_t prot);
int vuc_dma_unmap(struct vuc *c, uint64_t iova, uint64_t len);

/* iommufd mode; @flags: VU_IOAS_WRITEABLE, _READABLE. */
int vuc_ioas_alloc(struct vuc *c, uint32_t *id);
int vuc_ioas_destroy(struct vuc *c, uint32_t id);
int vuc_ioas_map(struct vuc *c, uint32_t id, int fd, uint64_t off, uint64_t len,
		 uint32_t flags, uint64_t *iova);
int vuc_ioas_unmap(struct vuc *c, uint32_t id, uint64_t iova, uint64_t len);
int vuc_ioas_unmap_all(struct vuc *c, uint32_t id);
int vuc_ioas_copy(struct vuc *c, uint32_t src, uint64_t iova, uint64_t len,
		  uint32_t dst, uint32_t flags, uint64_t *dst_iova);
int vuc_bind(struct vuc *c, uint32_t *devid);
int vuc_attach_pt(struct vuc *c, uint32_t id);
int vuc_detach_pt(struct vuc *c);

#endif
