/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Identify: the controller and its namespaces (NVMe 2.0 §5.17). Not for features.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

#define OPC_IDENTIFY 0x06
#define CNS_NS 0x00
#define CNS_CTRL 0x01
#define CNS_ACTIVE_LIST 0x02
#define CNS_DESCRIPTORS 0x03
#define NIDT_UUID 3
#define IDENTIFY_LEN 4096

static int
identify(struct belfry_host *h, unsigned cns, uint32_t nsid, void *buf)
{
	struct belfry_sqe sqe = { .dw = { OPC_IDENTIFY } };

	sqe.dw[1] = nsid;
	sqe.dw[10] = cns;
	return belfry_admin(h, &sqe, buf, IDENTIFY_LEN, NULL, 0);
}

/* A field padded with spaces, as a string. @dst has @len + 1 bytes. */
static void
take_ascii(char *dst, const char *src, size_t len)
{
	memcpy(dst, src, len);
	while (len && (dst[len - 1] == ' ' || !dst[len - 1]))
		len--;
	dst[len] = 0;
	for (size_t i = 0; i < len; i++)
		if (dst[i] < 32 || dst[i] > 126)
			dst[i] = '?';
}

int
belfry_identify(struct belfry_host *h, struct belfry_ctrl_info *out)
{
	struct nvme_id_ctrl id;
	int err = identify(h, CNS_CTRL, 0, &id);

	_Static_assert(sizeof(id) == IDENTIFY_LEN, "identify controller");
	if (err)
		return err;
	memset(out, 0, sizeof(*out));
	take_ascii(out->serial, id.sn, sizeof(id.sn));
	take_ascii(out->model, id.mn, sizeof(id.mn));
	take_ascii(out->firmware, id.fr, sizeof(id.fr));
	out->vendor = id.vid;
	out->cntlid = id.cntlid;
	out->namespaces = id.nn;
	out->oacs = id.oacs;
	out->oncs = id.oncs;
	/* MDTS 0: no limit but what a command can say. */
	out->max_transfer = 1u << 31;
	if (id.mdts && id.mdts < 19)
		out->max_transfer = NVME_PAGE << id.mdts;
	return 0;
}

/* The list of descriptors ends at a length of 0, or of the page. */
static void
take_uuid(const uint8_t *list, uint8_t *uuid)
{
	for (size_t at = 0; at + 4 <= IDENTIFY_LEN;) {
		uint8_t type = list[at], len = list[at + 1];

		if (!len || !range_inside(at + 4, len, IDENTIFY_LEN))
			return;
		if (type == NIDT_UUID && len == 16) {
			memcpy(uuid, list + at + 4, 16);
			return;
		}
		at += 4u + len;
	}
}

int
belfry_identify_ns(struct belfry_host *h, uint32_t nsid, struct belfry_ns *out)
{
	union {
		struct nvme_id_ns id;
		uint8_t list[IDENTIFY_LEN];
	} u;
	unsigned format, ds;
	int err = identify(h, CNS_NS, nsid, &u);

	_Static_assert(sizeof(u) == IDENTIFY_LEN, "identify namespace");
	if (err)
		return err;
	format = (u.id.flbas & 15) | (u.id.flbas >> 5 & 3) << 4;
	ds = u.id.lbaf[format].ds;
	memset(out, 0, sizeof(*out));
	out->nsid = nsid;
	if (!u.id.nsze)
		return -ENOENT; /* inactive */
	if (ds < 9 || ds > 16 || u.id.nsze > UINT64_MAX >> ds)
		return -EPROTO;
	out->blocks = u.id.nsze;
	out->block_len = 1u << ds;
	err = identify(h, CNS_DESCRIPTORS, nsid, u.list);
	if (err < 0)
		return err;
	if (!err)
		take_uuid(u.list, out->uuid);
	return 0;
}

int64_t
belfry_next_ns(struct belfry_host *h, uint32_t after)
{
	uint32_t list[IDENTIFY_LEN / 4];
	int err;

	if (after >= 0xfffffffe)
		return 0;
	err = identify(h, CNS_ACTIVE_LIST, after, list);
	if (err)
		return err < 0 ? err : -EIO;
	/* One that does not go on would keep the caller for ever. */
	if (list[0] && list[0] <= after)
		return -EPROTO;
	return list[0];
}
