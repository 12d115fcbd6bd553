/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The message: read it in pieces, check its frame, find its handler, send the
 * answer. Not for what commands mean.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define HDR sizeof(struct vu_hdr)

static const struct vu_cmd commands[] = {
	[VU_DMA_MAP] = { vu_dma_map, NULL, sizeof(struct vu_dma_map), 0, true,
			 VU_IN_LEGACY },
	[VU_DMA_UNMAP] = { vu_dma_unmap, NULL, sizeof(struct vu_dma_unmap), 0,
			   true, VU_IN_LEGACY },
	[VU_DEVICE_GET_INFO] = { vu_device_get_info, NULL,
				 sizeof(struct vu_device_info), 0, true,
				 VU_IN_BOTH },
	[VU_DEVICE_GET_REGION_INFO] = { vu_device_get_region_info, NULL,
					sizeof(struct vfio_region_info), 0,
					true, VU_IN_BOTH },
	[VU_DEVICE_GET_REGION_IO_FDS] = { vu_device_get_region_io_fds, NULL,
					  sizeof(struct vu_region_io_fds), 0,
					  true, VU_IN_BOTH },
	[VU_DEVICE_GET_IRQ_INFO] = { vu_device_get_irq_info, NULL,
				     sizeof(struct vfio_irq_info), 0, true,
				     VU_IN_BOTH },
	[VU_DEVICE_SET_IRQS] = { vu_device_set_irqs, vu_device_set_irqs_next,
				 sizeof(struct vfio_irq_set),
				 sizeof(struct vfio_irq_set) + 2048, true,
				 VU_IN_BOTH },
	[VU_REGION_READ] = { vu_region_read, NULL,
			     sizeof(struct vu_region_access), 0, false,
			     VU_IN_BOTH },
	[VU_REGION_WRITE] = { vu_region_write, NULL,
			      sizeof(struct vu_region_access),
			      sizeof(struct vu_region_access) +
				      VU_DEFAULT_DATA_XFER,
			      false, VU_IN_BOTH },
	[VU_DEVICE_RESET] = { vu_device_reset, NULL, 0, 0, false, VU_IN_BOTH },
	[VU_REGION_WRITE_MULTI] = { vu_region_write_multi,
				    vu_region_write_multi_next,
				    sizeof(uint64_t),
				    sizeof(uint64_t) +
					    VU_MULTI_MAX *
						    sizeof(struct vu_multi_entry),
				    false, VU_IN_BOTH },
	[VU_DEVICE_FEATURE] = { vu_device_feature, NULL,
				sizeof(struct vu_device_feature), 0, true,
				VU_IN_BOTH },
	[VU_IOMMUFD_ALLOC_IOAS] = { vu_iommufd_alloc_ioas, NULL,
				    sizeof(struct vu_ioas_id), 0, true,
				    VU_IN_IOMMUFD },
	[VU_IOMMUFD_DESTROY_IOAS] = { vu_iommufd_destroy_ioas, NULL,
				      sizeof(struct vu_ioas_id), 0, true,
				      VU_IN_IOMMUFD },
	[VU_IOMMUFD_IOAS_MAP] = { vu_iommufd_ioas_map, vu_iommufd_ioas_map_done,
				  sizeof(struct vu_ioas_map), 0, true,
				  VU_IN_IOMMUFD },
	[VU_IOMMUFD_IOAS_UNMAP] = { vu_iommufd_ioas_unmap, NULL,
				    sizeof(struct vu_ioas_unmap), 0, true,
				    VU_IN_IOMMUFD },
	[VU_IOMMUFD_IOAS_COPY] = { vu_iommufd_ioas_copy,
				   vu_iommufd_ioas_copy_done,
				   sizeof(struct vu_ioas_copy), 0, true,
				   VU_IN_IOMMUFD },
	[VU_IOMMUFD_BIND] = { vu_iommufd_bind, NULL, sizeof(struct vu_bind), 0,
			      true, VU_IN_IOMMUFD },
	[VU_IOMMUFD_ATTACH_PT] = { vu_iommufd_attach_pt, NULL,
				   sizeof(struct vu_attach), 0, true,
				   VU_IN_IOMMUFD },
	[VU_IOMMUFD_DETACH_PT] = { vu_iommufd_detach_pt, NULL,
				   sizeof(struct vu_detach), 0, true,
				   VU_IN_IOMMUFD },
};

const struct vu_cmd *
vu_cmd_find(unsigned command, int *err)
{
	*err = -EINVAL;
	if (command == VU_DIRTY_PAGES || command == VU_MIG_DATA_READ ||
	    command == VU_MIG_DATA_WRITE)
		*err = -ENOTSUP;
	if (command >= ARRAY_SIZE(commands) || !commands[command].start)
		return NULL;
	return &commands[command];
}

/* ---- receiving ---- */

void
vu_msg_init(struct vu_msg *m)
{
	m->got = m->len = m->kept = 0;
	m->body = m->small;
	m->nfds = 0;
}

void
vu_msg_fini(struct vu_msg *m)
{
	if (m->body != m->small)
		free(m->body);
	vu_msg_init(m);
}

/* How much of a payload is worth keeping: what the command can use, no more. */
static size_t
msg_keep(unsigned command, size_t len)
{
	int err;
	const struct vu_cmd *cmd = vu_cmd_find(command, &err);
	size_t keep = 0;

	if (command == VU_VERSION)
		keep = VU_VERSION_MAX;
	else if (cmd)
		keep = cmd->keep ? cmd->keep : cmd->min;
	return MIN(keep, len);
}

/* The header is here. */
static int
msg_begin(struct vu_msg *m)
{
	if (m->hdr.msg_size < HDR || m->hdr.msg_size > VU_MSG_MAX)
		return -EPROTO;
	m->len = m->hdr.msg_size - HDR;
	m->kept = msg_keep(m->hdr.command, m->len);
	if (m->kept > sizeof(m->small)) {
		uint8_t *body = malloc(m->kept);

		if (!body)
			return -ENOMEM;
		m->body = body;
	}
	return 0;
}

int
vu_msg_read(struct vu_msg *m, int fd, size_t *bytes)
{
	uint8_t scratch[4096];
	unsigned reads = VU_READS;

	while (m->got < HDR || m->got < HDR + m->len) {
		void *to = scratch;
		size_t len, at = m->got - HDR; /* not of a header */
		ssize_t n;
		int err;

		if (!reads--)
			return -EINPROGRESS;
		/* Never past the end of this message: the descriptors that
		 * come with the bytes of the next one are the next one's. */
		if (m->got < HDR) {
			to = (uint8_t *)&m->hdr + m->got;
			len = HDR - m->got;
		} else if (at < m->kept) {
			to = m->body + at;
			len = m->kept - at;
		} else {
			len = MIN(m->len - at, sizeof(scratch));
		}
		n = vu_sock_recv(fd, to, len, m->fds, &m->nfds);
		if (n <= 0)
			return (int)n;
		m->got += (size_t)n;
		*bytes += (size_t)n;
		err = m->got == HDR ? msg_begin(m) : 0;
		if (err)
			return err;
	}
	return 1;
}

/* ---- handling ---- */

int
vu_msg_finish(struct vu_session *s, int err)
{
	const struct vu_cmd *cmd = vu_cmd_find(s->msg.hdr.command, &(int){ 0 });

	if (!err && cmd->finish)
		err = cmd->finish(s, &s->msg);
	return err;
}

int
vu_msg_start(struct vu_session *s)
{
	struct vu_msg *m = &s->msg;
	unsigned mode = s->caps.iommufd ? VU_IN_IOMMUFD : VU_IN_LEGACY;
	const struct vu_cmd *cmd;
	uint32_t argsz;
	int err;

	if ((m->hdr.flags & VU_F_TYPE_MASK) != VU_F_COMMAND)
		return -EINVAL;
	cmd = vu_cmd_find(m->hdr.command, &err);
	if (!cmd)
		return err;
	if (!(cmd->modes & mode) || m->len < cmd->min)
		return -EINVAL;
	if (cmd->argsz) {
		memcpy(&argsz, m->body, sizeof(argsz));
		if (argsz < cmd->min)
			return -EINVAL;
	}
	err = cmd->start(s, m);
	return vu_msg_finish(s, err);
}

/* ---- replying ---- */

void
vu_out_init(struct vu_out *out)
{
	out->buf = out->small;
	out->room = out->len = out->sent = 0;
	out->fd = -1;
}

void
vu_out_fini(struct vu_out *out)
{
	if (out->buf != out->small)
		free(out->buf);
	vu_out_init(out);
}

void *
vu_reply_alloc(struct vu_session *s, size_t len)
{
	struct vu_out *out = &s->out;

	vu_out_fini(out);
	if (HDR + len > sizeof(out->small)) {
		out->buf = calloc(1, HDR + len);
		if (!out->buf) {
			out->buf = out->small;
			return NULL;
		}
	} else {
		memset(out->buf, 0, HDR + len);
	}
	out->room = HDR + len;
	return out->buf + HDR;
}

void
vu_reply_seal(struct vu_session *s, int err)
{
	struct vu_out *out = &s->out;
	struct vu_hdr hdr = {
		.msg_id = s->msg.hdr.msg_id,
		.command = s->msg.hdr.command,
		.flags = VU_F_REPLY,
	};

	if (s->msg.hdr.flags & VU_F_NO_REPLY) {
		vu_out_fini(out);
		return;
	}
	if (err)
		vu_out_fini(out);
	out->len = MAX(out->room, HDR);
	if (err) {
		hdr.flags |= VU_F_ERROR;
		hdr.error_no = (uint32_t)-err;
	}
	hdr.msg_size = (uint32_t)out->len;
	memcpy(out->buf, &hdr, HDR);
}

int
vu_reply_flush(struct vu_session *s)
{
	struct vu_out *out = &s->out;

	if (!out->len)
		return 0; /* what is there is not ready yet */
	while (out->sent < out->len) {
		ssize_t n = vu_sock_send(s->rfd.fd, out->buf + out->sent,
					 out->len - out->sent, out->fd);

		if (n < 0)
			return (int)n;
		out->sent += (size_t)n;
		out->fd = -1;
	}
	vu_out_fini(out);
	return 0;
}
