/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wire formats of NVMe that libnvme's nvme/types.h does not have: queue entries and SGL descriptors.
 *
 * Revisions pinned for the whole tree: NVMe Base 2.0, NVM Command Set 1.0, NVMe over PCIe Transport 1.0.
 * No logic. All fields little-endian; belfry runs on little-endian hosts only (asserted below).
 */
#ifndef BELFRY_SPEC_NVME_H
#define BELFRY_SPEC_NVME_H

#include <endian.h>
#include <stdint.h>

#include <linux/types.h>

#include <nvme/types.h>

#if __BYTE_ORDER != __LITTLE_ENDIAN
#error "belfry runs on little-endian hosts only"
#endif

/* NVMe 2.0 §3.3.3.1, figure 87 (common command format) */
struct nvme_sqe {
	uint8_t opcode;
	uint8_t flags; /* bits 1:0 FUSE, 7:6 PSDT */
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t mptr;
	union {
		struct {
			uint64_t prp1, prp2;
		};
		struct nvme_sgl {
			uint64_t addr;
			uint32_t len;
			uint8_t rsvd[3];
			uint8_t type; /* 7:4 type, 3:0 subtype */
		} sgl;
	};
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
_Static_assert(sizeof(struct nvme_sqe) == 64, "SQE");
_Static_assert(sizeof(struct nvme_sgl) == 16, "SGL descriptor");

#define NVME_SQE_FUSE(flags) ((flags)&3)
#define NVME_SQE_PSDT(flags) \
	((flags) >>          \
	 6) /* 0 PRP, 1 SGL (contiguous metadata), 2 SGL (SGL metadata) */

/* NVMe 2.0 §3.3.3.2 */
struct nvme_cqe {
	uint32_t dw0, dw1;
	uint16_t sq_head, sqid;
	uint16_t cid;
	uint16_t status; /* bit 0 phase, 15:1 status field */
};
_Static_assert(sizeof(struct nvme_cqe) == 16, "CQE");

/* NVMe 2.0 §4.1.2 */
enum nvme_sgl_type {
	NVME_SGL_DATA = 0,
	NVME_SGL_BIT_BUCKET = 1,
	NVME_SGL_SEGMENT = 2,
	NVME_SGL_LAST_SEGMENT = 3,
};
#define NVME_SGL_TYPE(t) ((t) >> 4)
#define NVME_SGL_SUBTYPE(t) ((t)&15)

#define NVME_PAGE \
	4096u /* CAP.MPSMIN = CAP.MPSMAX = 0: the only memory page size */

#endif
