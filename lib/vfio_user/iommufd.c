/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands 19 to 26: the client makes address spaces, we choose the addresses.
 * The errors are ioas's own, sent as they are. Not for legacy connections.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

/* The same structure goes back, with what the server fills in. */
static void *
reply_copy(struct vu_session *s, const void *req, size_t len)
{
	void *reply = vu_reply_alloc(s, len);

	if (reply)
		memcpy(reply, req, len);
	return reply;
}

static int
prot_of(uint32_t flags, uint32_t *prot)
{
	if (!flags || (flags & ~(VU_IOAS_WRITEABLE | VU_IOAS_READABLE)))
		return -EINVAL;
	*prot = 0;
	if (flags & VU_IOAS_WRITEABLE)
		*prot |= IOAS_WRITE;
	if (flags & VU_IOAS_READABLE)
		*prot |= IOAS_READ;
	return 0;
}

int
vu_iommufd_alloc_ioas(struct vu_session *s, struct vu_msg *m)
{
	struct vu_ioas_id req;
	uint32_t id = 0;
	void *reply;
	int err;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags)
		return -EINVAL;
	reply = reply_copy(s, &req, sizeof(req));
	if (!reply)
		return -ENOMEM;
	err = ioas_alloc(s->ioas, &id);
	if (err)
		return err;
	req.ioas_id = id;
	req.argsz = sizeof(req);
	memcpy(reply, &req, sizeof(req));
	return 0;
}

int
vu_iommufd_destroy_ioas(struct vu_session *s, struct vu_msg *m)
{
	struct vu_ioas_id req;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags)
		return -EINVAL;
	return ioas_destroy(s->ioas, req.ioas_id, &s->op);
}

int
vu_iommufd_ioas_map(struct vu_session *s, struct vu_msg *m)
{
	struct vu_ioas_map req;
	uint32_t prot;
	int err;

	memcpy(&req, m->body, sizeof(req));
	err = prot_of(req.flags, &prot);
	if (err)
		return err;
	if (m->nfds != 1 || !req.length)
		return -EINVAL;
	req.argsz = sizeof(req);
	if (!reply_copy(s, &req, sizeof(req)))
		return -ENOMEM;
	err = ioas_map(s->ioas, req.ioas_id, 0, req.length, m->fds[0],
		       req.offset, prot, &s->op);
	if (!err || err == -EINPROGRESS)
		m->fds[0] = -1; /* taken */
	return err;
}

/* The reply waits already, without the address: @off is its place. */
static int
reply_iova(struct vu_session *s, size_t off)
{
	memcpy(s->out.buf + sizeof(struct vu_hdr) + off, &s->op.iova,
	       sizeof(s->op.iova));
	return 0;
}

int
vu_iommufd_ioas_map_done(struct vu_session *s, struct vu_msg *m)
{
	return reply_iova(s, offsetof(struct vu_ioas_map, iova));
}

int
vu_iommufd_ioas_unmap(struct vu_session *s, struct vu_msg *m)
{
	struct vu_ioas_unmap req;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags & ~VU_IOAS_UNMAP_ALL)
		return -EINVAL;
	if (req.flags & VU_IOAS_UNMAP_ALL)
		return ioas_unmap_all(s->ioas, req.ioas_id, &s->op);
	if (!req.length)
		return -EINVAL;
	return ioas_unmap(s->ioas, req.ioas_id, req.iova, req.length, &s->op);
}

int
vu_iommufd_ioas_copy(struct vu_session *s, struct vu_msg *m)
{
	struct vu_ioas_copy req;
	uint32_t prot;
	int err;

	memcpy(&req, m->body, sizeof(req));
	err = prot_of(req.flags, &prot);
	if (err)
		return err;
	if (!req.length)
		return -EINVAL;
	req.argsz = sizeof(req);
	if (!reply_copy(s, &req, sizeof(req)))
		return -ENOMEM;
	return ioas_copy(s->ioas, req.src_ioas_id, req.src_iova, req.length,
			 req.dst_ioas_id, prot, &s->op);
}

int
vu_iommufd_ioas_copy_done(struct vu_session *s, struct vu_msg *m)
{
	return reply_iova(s, offsetof(struct vu_ioas_copy, dst_iova));
}

int
vu_iommufd_bind(struct vu_session *s, struct vu_msg *m)
{
	struct vu_bind req;
	uint32_t devid = 0;
	void *reply;
	int err;

	memcpy(&req, m->body, sizeof(req));
	if (req.flags || req.iommufd != -1)
		return -EINVAL;
	reply = reply_copy(s, &req, sizeof(req));
	if (!reply)
		return -ENOMEM;
	err = ioas_bind(s->ioas, &devid);
	if (err)
		return err;
	req.devid = devid;
	req.argsz = sizeof(req);
	memcpy(reply, &req, sizeof(req));
	return 0;
}

static int
check_pasid(uint32_t flags)
{
	if (flags & VU_PT_PASID)
		return -ENOTSUP;
	return flags ? -EINVAL : 0;
}

int
vu_iommufd_attach_pt(struct vu_session *s, struct vu_msg *m)
{
	struct vu_attach req;
	int err;

	memcpy(&req, m->body, sizeof(req));
	err = check_pasid(req.flags);
	if (err)
		return err;
	return ioas_attach(s->ioas, req.pt_id, &s->op);
}

int
vu_iommufd_detach_pt(struct vu_session *s, struct vu_msg *m)
{
	struct vu_detach req;
	int err;

	memcpy(&req, m->body, sizeof(req));
	err = check_pasid(req.flags);
	if (err)
		return err;
	return ioas_detach(s->ioas, &s->op);
}
