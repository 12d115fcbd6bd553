/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DEVICE_GET_INFO, the infos of regions and interrupts, DEVICE_RESET and
 * DEVICE_FEATURE: what the device is. Not for access to it.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

int
vu_device_get_info(struct vu_session *s, struct vu_msg *m)
{
	struct vu_device_info info = {
		.argsz = sizeof(info),
		.flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI,
		.num_regions = VU_NUM_REGIONS,
		.num_irqs = IRQ_INDEX_COUNT,
	};
	void *reply = vu_reply_alloc(s, sizeof(info));

	if (!reply)
		return -ENOMEM;
	memcpy(reply, &info, sizeof(info));
	return 0;
}

/*
 * One sparse area and one descriptor a region: QEMU takes no more descriptors, SPDK's
 * client pairs areas and descriptors. They go only into a reply that has room for the
 * capability; the short one names the size to ask with.
 */
int
vu_device_get_region_info(struct vu_session *s, struct vu_msg *m)
{
	struct vfio_region_info req, info = { .argsz = sizeof(info) };
	struct vu_region_info full = { 0 };
	struct vu_region region = { .fd = -1 };
	size_t len = sizeof(info);
	void *reply;

	memcpy(&req, m->body, sizeof(req));
	if (req.index >= VU_NUM_REGIONS)
		return -EINVAL;
	s->l->cfg.ops->region_info(s->dev, req.index, &region);
	info.index = req.index;
	info.size = region.len;
	if (region.len && region.read)
		info.flags |= VFIO_REGION_INFO_FLAG_READ;
	if (region.len && region.write)
		info.flags |= VFIO_REGION_INFO_FLAG_WRITE;
	/* A client that cannot take a descriptor gets none. */
	if (region.len && region.fd >= 0 && s->caps.max_msg_fds) {
		info.argsz = sizeof(full);
		info.offset = region.fd_off;
		if (req.argsz >= sizeof(full))
			len = sizeof(full);
	}
	reply = vu_reply_alloc(s, len);
	if (!reply)
		return -ENOMEM;
	if (len == sizeof(full)) {
		info.flags |= VFIO_REGION_INFO_FLAG_MMAP |
			      VFIO_REGION_INFO_FLAG_CAPS;
		info.cap_offset = sizeof(info);
		full.cap.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
		full.cap.version = 1;
		full.nr_areas = 1;
		full.area.offset = region.map_off;
		full.area.size = region.map_len;
		s->out.fd = region.fd;
	}
	full.info = info;
	memcpy(reply, &full, len);
	return 0;
}

/* We have no ioeventfds: an empty list. */
int
vu_device_get_region_io_fds(struct vu_session *s, struct vu_msg *m)
{
	struct vu_region_io_fds info;
	void *reply;

	memcpy(&info, m->body, sizeof(info));
	if (info.index >= VU_NUM_REGIONS || info.flags)
		return -EINVAL;
	reply = vu_reply_alloc(s, sizeof(info));
	if (!reply)
		return -ENOMEM;
	info.argsz = sizeof(info);
	info.count = 0;
	memcpy(reply, &info, sizeof(info));
	return 0;
}

int
vu_device_get_irq_info(struct vu_session *s, struct vu_msg *m)
{
	struct vfio_irq_info info;
	void *reply;

	memcpy(&info, m->body, sizeof(info));
	if (info.index >= IRQ_INDEX_COUNT)
		return -EINVAL;
	reply = vu_reply_alloc(s, sizeof(info));
	if (!reply)
		return -ENOMEM;
	info.argsz = sizeof(info);
	info.count = irq_count(s->irqs, info.index);
	/* No NORESIZE: QEMU may then enable vectors one by one. */
	info.flags = info.count ? VFIO_IRQ_INFO_EVENTFD : 0;
	if (info.index == VFIO_PCI_INTX_IRQ_INDEX)
		info.flags |= VFIO_IRQ_INFO_MASKABLE;
	memcpy(reply, &info, sizeof(info));
	return 0;
}

int
vu_device_reset(struct vu_session *s, struct vu_msg *m)
{
	return s->l->cfg.ops->reset(s->dev);
}

/* No feature is there yet, nor for PROBE: a client asks before it relies. */
int
vu_device_feature(struct vu_session *s, struct vu_msg *m)
{
	return -ENOTTY;
}
