/* SPDX-License-Identifier: BSD-3-Clause */
/* BAR0 below the doorbells: the controller properties (NVMe 2.0 §3.1.3). */
#include "internal.h"

#define CAP_TO 60u /* units of 500 ms */
#define CC_MASK 0x00fffff1u
/* Fields that may change while CC.EN is 1: SHN and EN, and the entry sizes. */
#define CC_LIVE 0x00ffc001u
#define NSSR_MAGIC 0x4e564d65u /* "NVMe" */
#define AQA_MASK 0x0fff0fffu
#define PAGE_MASK 0xfffffffffffff000u

void
regs_init(struct nvme_ctrl *ctrl)
{
	ctrl->cap = (uint64_t)(ctrl->cfg.max_depth - 1) << NVME_CAP_MQES_SHIFT |
		    1ull << NVME_CAP_CQR_SHIFT |
		    (uint64_t)CAP_TO << NVME_CAP_TO_SHIFT |
		    (uint64_t)(NVME_CAP_CSS_NVM | NVME_CAP_CSS_CSI)
			    << NVME_CAP_CSS_SHIFT |
		    (uint64_t)NVME_CAP_CRWMS << NVME_CAP_CRMS_SHIFT;
	if (ctrl->nssr_enabled)
		ctrl->cap |= 1ull << NVME_CAP_NSSRC_SHIFT;
	ctrl->vs = 2 << NVME_VS_MJR_SHIFT;
	ctrl->cc = ctrl->csts = ctrl->aqa = ctrl->intms = ctrl->nssr = 0;
	ctrl->asq = ctrl->acq = 0;
}

/* One dword; @off is a multiple of 4. Doorbells are write-only: they read zero. */
static uint32_t
reg_read(const struct nvme_ctrl *ctrl, uint64_t off)
{
	switch (off) {
	case NVME_REG_CAP:
		return (uint32_t)ctrl->cap;
	case NVME_REG_CAP + 4:
		return (uint32_t)(ctrl->cap >> 32);
	case NVME_REG_VS:
		return ctrl->vs;
	case NVME_REG_INTMS:
	case NVME_REG_INTMC:
		return ctrl->intms;
	case NVME_REG_CC:
		return ctrl->cc;
	case NVME_REG_CSTS:
		return ctrl->csts;
	case NVME_REG_AQA:
		return ctrl->aqa;
	case NVME_REG_ASQ:
		return (uint32_t)ctrl->asq;
	case NVME_REG_ASQ + 4:
		return (uint32_t)(ctrl->asq >> 32);
	case NVME_REG_ACQ:
		return (uint32_t)ctrl->acq;
	case NVME_REG_ACQ + 4:
		return (uint32_t)(ctrl->acq >> 32);
	case NVME_REG_CRTO:
		return CAP_TO; /* CRWMT; CRIMT is not supported */
	default:
		return 0;
	}
}

/* Every register is laid out on dwords: any piece of any length comes from them. */
int
nvme_ctrl_read(struct nvme_ctrl *ctrl, uint64_t off, void *buf, uint32_t len)
{
	uint8_t *out = buf;

	while (len) {
		uint32_t val = reg_read(ctrl, off & ~3ull);
		uint32_t skip = off & 3, n = MIN(len, 4 - skip);

		memcpy(out, (uint8_t *)&val + skip, n);
		out += n;
		off += n;
		len -= n;
	}
	return 0;
}

/*
 * The host begins anew. Of the life before, CSTS.RDY stays until it has ended; but where it failed that
 * is 0 already, and who then enables at once is not to see its CFS.
 */
static void
controller_reset(struct nvme_ctrl *ctrl)
{
	if (!ctrl->failed_for_good)
		ctrl->csts &= ~(1u << NVME_CSTS_CFS_SHIFT |
				3u << NVME_CSTS_SHST_SHIFT);
	ctrl_drain(ctrl, DRAIN_RESET);
}

void
regs_write_cc(struct nvme_ctrl *ctrl, uint32_t val)
{
	uint32_t old = ctrl->cc;
	uint32_t shn;

	val &= CC_MASK;
	if (NVME_CC_EN(old) && NVME_CC_EN(val))
		val = (old & ~CC_LIVE) | (val & CC_LIVE);
	ctrl->cc = val;
	if (NVME_CC_EN(old) && !NVME_CC_EN(val)) {
		ctrl->enable_again = false;
		controller_reset(ctrl);
	} else if (!NVME_CC_EN(old) && NVME_CC_EN(val)) {
		/* it was shut down while disabled: as after any shutdown */
		if (ctrl->shutdown != SHUT_NONE)
			controller_reset(ctrl);
		if (ctrl->drain)
			ctrl->enable_again = true; /* when that has ended */
		else
			ctrl_enable(ctrl);
	}
	shn = NVME_CC_SHN(val);
	if (!shn)
		ctrl->shutdown_again = false;
	else if (shn != 3 && shn != NVME_CC_SHN(old))
		ctrl_shutdown(ctrl);
	link_report(ctrl);
}

static void
reg_write_half(uint64_t *reg, bool high, uint32_t val)
{
	if (high)
		*reg = (*reg & UINT32_MAX) | (uint64_t)val << 32;
	else
		*reg = (*reg & ~(uint64_t)UINT32_MAX) | (val & PAGE_MASK);
}

static void
reg_write(struct nvme_ctrl *ctrl, uint64_t off, uint32_t val)
{
	bool enabled = NVME_CC_EN(ctrl->cc);

	switch (off) {
	case NVME_REG_INTMS:
	case NVME_REG_INTMC:
		/* for pin-based interrupts only; with MSI-X undefined: kept, unused */
		ctrl->intms = off == NVME_REG_INTMS ? ctrl->intms | val
						    : ctrl->intms & ~val;
		ctrl_intx_written(ctrl);
		break;
	case NVME_REG_CC:
		regs_write_cc(ctrl, val);
		break;
	case NVME_REG_CSTS: /* NSSRO: write 1 to clear */
		ctrl->csts &= ~(val & 1u << NVME_CSTS_NSSRO_SHIFT);
		break;
	case NVME_REG_NSSR:
		if (ctrl->nssr_enabled && val == NSSR_MAGIC)
			subsys_nssr(ctrl);
		break;
	case NVME_REG_AQA:
		if (!enabled)
			ctrl->aqa = val & AQA_MASK;
		break;
	case NVME_REG_ASQ:
	case NVME_REG_ASQ + 4:
		if (!enabled)
			reg_write_half(&ctrl->asq, off & 4, val);
		break;
	case NVME_REG_ACQ:
	case NVME_REG_ACQ + 4:
		if (!enabled)
			reg_write_half(&ctrl->acq, off & 4, val);
		break;
	default:
		if (off - NVME_DB_OFFSET < NVME_DB_LEN)
			doorbell_ring(ctrl,
				      (uint32_t)(off - NVME_DB_OFFSET) / 4,
				      val);
		break;
	}
}

/*
 * Whole, aligned dwords; anything else is ignored (NVMe over PCIe 1.0 §3.1: the
 * host shall access registers in their width or as dwords).
 */
int
nvme_ctrl_write(struct nvme_ctrl *ctrl, uint64_t off, const void *buf,
		uint32_t len)
{
	const uint8_t *in = buf;

	if (off % 4 || len % 4)
		return 0;
	for (uint32_t i = 0; i < len; i += 4) {
		uint32_t val;

		memcpy(&val, in + i, sizeof(val));
		reg_write(ctrl, off + i, val);
	}
	return 0;
}
