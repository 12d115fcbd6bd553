/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client's side: each command's request, and its reply looked at with care.
 * Not for the connection: that is client.c.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "belfry/spec/vfio_user.h"
#include "belfry/vfio_user_client.h"

/* A request whose reply has no payload, or one that does not matter. */
static int
call_plain(struct vuc *c, uint16_t command, const void *req, size_t len,
	   const int *fds, unsigned nfds)
{
	uint8_t ignored[64];
	struct vuc_msg m = { .command = command,
			     .req = req,
			     .req_len = len,
			     .fds = fds,
			     .nfds = nfds,
			     .reply = ignored,
			     .reply_max = sizeof(ignored) };

	return vuc_call(c, &m, 0);
}

/* The reply is the request's structure, filled in. Its argsz may be 0. */
static int
call_struct(struct vuc *c, uint16_t command, void *io, size_t len, int fd)
{
	struct vuc_msg m = { .command = command,
			     .req = io,
			     .req_len = len,
			     .fds = &fd,
			     .nfds = fd >= 0,
			     .reply = io,
			     .reply_min = len,
			     .reply_max = len };

	return vuc_call(c, &m, 0);
}

int
vuc_device_info(struct vuc *c, struct vu_device_info *out)
{
	*out = (struct vu_device_info){ .argsz = sizeof(*out) };
	return call_struct(c, VU_DEVICE_GET_INFO, out, sizeof(*out), -1);
}

void
vuc_region_release(struct vuc_region *r)
{
	for (unsigned i = 0; i < r->nareas; i++) {
		int fd = r->area[i].fd;

		for (unsigned k = i; k < r->nareas; k++)
			if (r->area[k].fd == fd)
				r->area[k].fd = -1;
		if (fd >= 0)
			close(fd);
	}
	r->nareas = 0;
}

/* The sparse area capability in [0, len) of @reply, into @r: how many areas, or -EPROTO. */
static int
parse_sparse(const uint8_t *reply, size_t len, uint32_t at,
	     struct vuc_region *r)
{
	/* A chain that goes round ends here: each step takes 8 bytes. */
	for (size_t steps = 0; at && steps < len / 8; steps++) {
		struct vfio_info_cap_header cap;
		uint32_t n;

		if (at % 8 || !range_inside(at, sizeof(cap), len))
			return -EPROTO;
		memcpy(&cap, reply + at, sizeof(cap));
		if (cap.id != VFIO_REGION_INFO_CAP_SPARSE_MMAP) {
			at = cap.next;
			continue;
		}
		if (!range_inside(at, 16, len))
			return -EPROTO;
		memcpy(&n, reply + at + 8, sizeof(n));
		if (n > VUC_MAX_AREAS || !range_inside(at + 16, n * 16ull, len))
			return -EPROTO;
		for (uint32_t i = 0; i < n; i++) {
			struct vfio_region_sparse_mmap_area a;

			memcpy(&a, reply + at + 16 + i * sizeof(a), sizeof(a));
			if (!range_inside(a.offset, a.size, r->len))
				return -EPROTO;
			r->area[i].off = a.offset;
			r->area[i].len = a.size;
		}
		return (int)n;
	}
	return at ? -EPROTO : 0;
}

/* Give each area its descriptor: one for all, or one each. Those left over are closed. */
static int
parse_region(const uint8_t *reply, size_t len, int *fds, unsigned nfds,
	     struct vuc_region *r)
{
	struct vfio_region_info info;
	int n = 0;

	memcpy(&info, reply, sizeof(info));
	r->flags = info.flags;
	r->len = info.size;
	if (info.flags & VFIO_REGION_INFO_FLAG_CAPS)
		n = parse_sparse(reply, len, info.cap_offset, r);
	if (n < 0)
		return n;
	if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP) || !nfds)
		return 0;
	if (!n) { /* no sparse areas: all of it */
		r->area[0].off = 0;
		r->area[0].len = r->len;
		n = 1;
	}
	if (nfds != 1 && nfds != (unsigned)n)
		return -EPROTO;
	for (int i = 0; i < n; i++) {
		if (r->area[i].off > INT64_MAX - (info.offset & INT64_MAX) ||
		    info.offset > INT64_MAX)
			return -EPROTO;
		r->area[i].fd_off = info.offset + r->area[i].off;
		r->area[i].fd = fds[nfds == 1 ? 0 : i];
	}
	r->nareas = (unsigned)n;
	return 0;
}

int
vuc_region_info(struct vuc *c, unsigned index, struct vuc_region *out)
{
	uint8_t reply[sizeof(struct vfio_region_info) + 64 + VUC_MAX_AREAS * 16];
	struct vfio_region_info req = { .argsz = sizeof(reply),
					.index = index };
	int fds[VUC_MAX_FDS], err;
	struct vuc_msg m = { .command = VU_DEVICE_GET_REGION_INFO,
			     .req = &req,
			     .req_len = sizeof(req),
			     .reply = reply,
			     .reply_min = sizeof(req),
			     .reply_max = sizeof(reply),
			     .reply_fds = fds };

	memset(out, 0, sizeof(*out));
	err = vuc_call(c, &m, 0);
	if (err)
		return err;
	err = parse_region(reply, m.reply_len, fds, m.reply_nfds, out);
	if (err || !out->nareas) {
		out->nareas = 0;
		for (unsigned i = 0; i < m.reply_nfds; i++)
			close(fds[i]);
	}
	return err;
}

/* One message's worth of a region access; @reply has room for its 16 bytes and @count more. */
static int
region_access(struct vuc *c, uint16_t command, const struct vu_region_access *a,
	      const void *data, void *reply, uint32_t count)
{
	struct vu_region_access got;
	struct vuc_msg m = { .command = command,
			     .req = a,
			     .req_len = sizeof(*a),
			     .data = data,
			     .data_len = data ? a->count : 0,
			     .reply = reply,
			     .reply_min = sizeof(got) + count,
			     .reply_max = sizeof(got) + count };
	int err = vuc_call(c, &m, 0);

	if (err)
		return err;
	memcpy(&got, reply, sizeof(got));
	return got.count == a->count ? 0 : -EPROTO;
}

#define ACCESS_CHUNK 4096u

static uint32_t
chunk_of(const struct vuc *c, uint32_t left)
{
	uint64_t max = MIN(vuc_caps(c)->max_data_xfer_size, ACCESS_CHUNK);

	return (uint32_t)MIN(left, max);
}

int
vuc_region_read(struct vuc *c, unsigned index, uint64_t off, void *buf,
		uint32_t len)
{
	uint8_t reply[sizeof(struct vu_region_access) + ACCESS_CHUNK];

	for (uint32_t n; len; len -= n, off += n) {
		struct vu_region_access a = { .offset = off, .region = index };
		int err;

		a.count = n = chunk_of(c, len);
		err = region_access(c, VU_REGION_READ, &a, NULL, reply, n);
		if (err)
			return err;
		memcpy(buf, reply + sizeof(a), n);
		buf = (char *)buf + n;
	}
	return 0;
}

int
vuc_region_write(struct vuc *c, unsigned index, uint64_t off, const void *buf,
		 uint32_t len)
{
	for (uint32_t n; len; len -= n, off += n) {
		struct vu_region_access a = { .offset = off, .region = index };
		uint8_t reply[sizeof(a)];
		int err;

		a.count = n = chunk_of(c, len);
		err = region_access(c, VU_REGION_WRITE, &a, buf, reply, 0);
		if (err)
			return err;
		buf = (const char *)buf + n;
	}
	return 0;
}

int
vuc_region_post(struct vuc *c, unsigned index, uint64_t off, const void *buf,
		uint32_t len)
{
	struct vu_region_access a = { .offset = off,
				      .region = index,
				      .count = len };
	struct vuc_msg m = { .command = VU_REGION_WRITE,
			     .req = &a,
			     .req_len = sizeof(a),
			     .data = buf,
			     .data_len = len,
			     .posted = true };
	uint16_t id;

	return len > 64 ? -EINVAL : vuc_send(c, &m, 0, &id);
}

int
vuc_irq_count(struct vuc *c, unsigned index)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };
	int err =
		call_struct(c, VU_DEVICE_GET_IRQ_INFO, &info, sizeof(info), -1);

	if (err)
		return err;
	return info.count > 2048 ? -EPROTO : (int)info.count;
}

int
vuc_set_irqs(struct vuc *c, unsigned index, const int *fds, unsigned n)
{
	unsigned max = MIN(vuc_caps(c)->max_msg_fds, VUC_MAX_FDS);
	struct vfio_irq_set req = {
		.argsz = sizeof(req),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
	};

	if (!n)
		return call_plain(c, VU_DEVICE_SET_IRQS, &req, sizeof(req),
				  NULL, 0);
	if (!max)
		return -ENOTSUP; /* it takes no descriptors */
	req.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	for (; req.start < n; req.start += req.count) {
		int err;

		req.count = MIN(n - req.start, max);
		err = call_plain(c, VU_DEVICE_SET_IRQS, &req, sizeof(req),
				 fds + req.start, req.count);
		if (err)
			return err;
	}
	return 0;
}

int
vuc_reset(struct vuc *c)
{
	return call_plain(c, VU_DEVICE_RESET, NULL, 0, NULL, 0);
}

int
vuc_dma_map(struct vuc *c, int fd, uint64_t off, uint64_t iova, uint64_t len,
	    uint32_t prot)
{
	struct vu_dma_map req = { .argsz = sizeof(req),
				  .flags = prot,
				  .offset = off,
				  .address = iova,
				  .size = len };

	return call_plain(c, VU_DMA_MAP, &req, sizeof(req), &fd, fd >= 0);
}

int
vuc_dma_unmap(struct vuc *c, uint64_t iova, uint64_t len)
{
	struct vu_dma_unmap req = { .argsz = sizeof(req),
				    .address = iova,
				    .size = len };

	return call_plain(c, VU_DMA_UNMAP, &req, sizeof(req), NULL, 0);
}

int
vuc_ioas_alloc(struct vuc *c, uint32_t *id)
{
	struct vu_ioas_id io = { .argsz = sizeof(io) };
	int err = call_struct(c, VU_IOMMUFD_ALLOC_IOAS, &io, sizeof(io), -1);

	*id = io.ioas_id;
	return err;
}

int
vuc_ioas_destroy(struct vuc *c, uint32_t id)
{
	struct vu_ioas_id req = { .argsz = sizeof(req), .ioas_id = id };

	return call_plain(c, VU_IOMMUFD_DESTROY_IOAS, &req, sizeof(req), NULL,
			  0);
}

/* The server chose [iova, iova + len): at least it must be a range. */
static int
check_iova(uint64_t iova, uint64_t len)
{
	return range_inside(iova, len, UINT64_MAX) ? 0 : -EPROTO;
}

int
vuc_ioas_map(struct vuc *c, uint32_t id, int fd, uint64_t off, uint64_t len,
	     uint32_t flags, uint64_t *iova)
{
	struct vu_ioas_map io = { .argsz = sizeof(io),
				  .flags = flags,
				  .ioas_id = id,
				  .length = len,
				  .offset = off };
	int err = call_struct(c, VU_IOMMUFD_IOAS_MAP, &io, sizeof(io), fd);

	*iova = io.iova;
	return err ? err : check_iova(io.iova, len);
}

static int
unmap(struct vuc *c, uint32_t id, uint32_t flags, uint64_t iova, uint64_t len)
{
	struct vu_ioas_unmap req = { .argsz = sizeof(req),
				     .flags = flags,
				     .ioas_id = id,
				     .iova = iova,
				     .length = len };

	return call_plain(c, VU_IOMMUFD_IOAS_UNMAP, &req, sizeof(req), NULL, 0);
}

int
vuc_ioas_unmap(struct vuc *c, uint32_t id, uint64_t iova, uint64_t len)
{
	return unmap(c, id, 0, iova, len);
}

int
vuc_ioas_unmap_all(struct vuc *c, uint32_t id)
{
	return unmap(c, id, VU_IOAS_UNMAP_ALL, 0, 0);
}

int
vuc_ioas_copy(struct vuc *c, uint32_t src, uint64_t iova, uint64_t len,
	      uint32_t dst, uint32_t flags, uint64_t *dst_iova)
{
	struct vu_ioas_copy io = { .argsz = sizeof(io),
				   .flags = flags,
				   .src_ioas_id = src,
				   .dst_ioas_id = dst,
				   .src_iova = iova,
				   .length = len };
	int err = call_struct(c, VU_IOMMUFD_IOAS_COPY, &io, sizeof(io), -1);

	*dst_iova = io.dst_iova;
	return err ? err : check_iova(io.dst_iova, len);
}

int
vuc_bind(struct vuc *c, uint32_t *devid)
{
	struct vu_bind io = { .argsz = sizeof(io), .iommufd = -1 };
	int err = call_struct(c, VU_IOMMUFD_BIND, &io, sizeof(io), -1);

	*devid = io.devid;
	return err;
}

int
vuc_attach_pt(struct vuc *c, uint32_t id)
{
	struct vu_attach req = { .argsz = sizeof(req), .pt_id = id };

	return call_plain(c, VU_IOMMUFD_ATTACH_PT, &req, sizeof(req), NULL, 0);
}

int
vuc_detach_pt(struct vuc *c)
{
	struct vu_detach req = { .argsz = sizeof(req) };

	return call_plain(c, VU_IOMMUFD_DETACH_PT, &req, sizeof(req), NULL, 0);
}
