/* SPDX-License-Identifier: BSD-3-Clause */
/* Identify: the structures of one active namespace (NVM Command Set 1.0 §4.1.5). */
#include "admin.h"

#define NMIC_SHARED 1u
#define NSFEAT_OPTPERF (1u << 4)
#define NSATTR_WRITE_PROTECTED 1u
#define NSTAT_READY 1u
#define DLFEAT_ZEROS 1u
#define DLFEAT_WZ_DEAC (1u << 3)

/* Bytes as 0's based blocks; what is no whole number of blocks is one. */
static uint16_t
blocks0(const struct nvme_nsref *ns, uint64_t bytes)
{
	uint64_t n = bytes >> ns->lba_shift;

	if (!n || n > 0x10000)
		n = 1;
	return (uint16_t)(n - 1);
}

static uint8_t
dlfeat(const struct nvme_nsref *ns)
{
	uint8_t v = 0;

	if (ns->caps & BDEV_CAP_DISCARD && ns->caps & BDEV_CAP_DISCARD_ZEROES)
		v |= DLFEAT_ZEROS;
	if (ns->caps & BDEV_CAP_DISCARD)
		v |= DLFEAT_WZ_DEAC;
	return v;
}

/* Preferred sizes, where the device has some that are not one block. */
static void
fill_preferred(const struct nvme_nsref *ns, struct nvme_id_ns *id)
{
	uint16_t write = blocks0(ns, ns->bdev.phys_block_len);
	uint16_t discard = blocks0(ns, ns->bdev.discard_granularity);

	if (!write && !discard)
		return;
	id->nsfeat |= NSFEAT_OPTPERF;
	id->npwg = id->npwa = id->nows = write;
	id->npdg = id->npda = MAX(discard, write);
}

void
identify_fill_ns(const struct nvme_nsref *ns, void *buf)
{
	struct nvme_id_ns *id = buf;

	id->nsze = id->ncap = id->nuse = ns->nlb;
	fill_preferred(ns, id);
	id->nmic = NMIC_SHARED;
	id->dlfeat = dlfeat(ns);
	id->nsattr = ns->read_only ? NSATTR_WRITE_PROTECTED : 0;
	if (ns->cfg.has_nguid)
		memcpy(id->nguid, ns->cfg.nguid, sizeof(id->nguid));
	if (ns->cfg.has_eui64)
		memcpy(id->eui64, ns->cfg.eui64, sizeof(id->eui64));
	id->lbaf[0].ds = ns->lba_shift;
}

void
identify_fill_independent(const struct nvme_nsref *ns, void *buf)
{
	struct nvme_id_independent_id_ns *id = buf;

	id->nmic = NMIC_SHARED;
	id->nsattr = ns->read_only ? NSATTR_WRITE_PROTECTED : 0;
	id->nstat = NSTAT_READY;
}

static uint8_t *
put_desc(uint8_t *at, uint8_t type, const void *nid, uint8_t len)
{
	struct nvme_ns_id_desc *desc = (struct nvme_ns_id_desc *)at;

	desc->nidt = type;
	desc->nidl = len;
	memcpy(desc->nid, nid, len);
	return at + sizeof(*desc) + len;
}

void
identify_fill_descs(const struct nvme_nsref *ns, void *buf)
{
	const uint8_t csi = 0; /* NVM */
	uint8_t *at = buf;

	if (ns->cfg.has_eui64)
		at = put_desc(at, NVME_NIDT_EUI64, ns->cfg.eui64,
			      NVME_NIDT_EUI64_LEN);
	if (ns->cfg.has_nguid)
		at = put_desc(at, NVME_NIDT_NGUID, ns->cfg.nguid,
			      NVME_NIDT_NGUID_LEN);
	if (!uuid_is_null(ns->cfg.uuid))
		at = put_desc(at, NVME_NIDT_UUID, ns->cfg.uuid,
			      NVME_NIDT_UUID_LEN);
	put_desc(at, NVME_NIDT_CSI, &csi, NVME_NIDT_CSI_LEN);
}
