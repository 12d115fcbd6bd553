/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the admin commands share: admin.c, identify.c, feature.c,
 * log_page.c, queue_cmd.c, aer.c. Not for the data path.
 */
#ifndef BELFRY_NVME_ADMIN_H
#define BELFRY_NVME_ADMIN_H

#include "internal.h"

#define INVALID_FIELD NVME_DNR(NVME_SC_INVALID_FIELD)
#define INVALID_NS NVME_DNR(NVME_SC_INVALID_NS)
#define SPECIFIC(sc) NVME_DNR(NVME_CMD_SC(sc))

/* What Identify, features and SMART must agree on; kelvin. */
#define TEMPERATURE 313
#define TEMP_WARNING 343
#define TEMP_CRITICAL 373
#define TEMP_SENSORS 1

/* Commands Supported and Effects: the scope field (NVMe 2.0 §5.16.1.6) */
#define SCOPE_NS (1u << 20)
#define SCOPE_CTRL (1u << 21)

#define KAS 10 /* Keep Alive granularity, in 100 ms */

/* An NSID that some namespace may have, active or not. */
static inline bool
nsid_valid(const struct nvme_ctrl *ctrl, uint32_t nsid)
{
	return nsid && nsid <= subsys_config(ctrl->subsys)->max_namespaces;
}

/*
 * Doorbell Buffer Config helps only where each doorbell is a message; with a
 * mapped page it would cost the guest what it saves nobody.
 */
static inline bool
ctrl_has_dbbuf(const struct nvme_ctrl *ctrl)
{
	return ctrl->cfg.shadow_doorbells && !ctrl->cfg.map_doorbells;
}

/* identify_ns.c: into 4096 zeroed bytes */
void identify_fill_ns(const struct nvme_nsref *ns, void *buf);
void identify_fill_independent(const struct nvme_nsref *ns, void *buf);
void identify_fill_descs(const struct nvme_nsref *ns, void *buf);
/* feature.c: each Feature Identifier that works, for log 12h. */
void feature_effects(uint32_t fids[256]);
/* feature.c: compare the temperature with its thresholds, tell by event. */
void feature_check_temperature(struct nvme_ctrl *ctrl);
/* log_fill.c: build a log page in @buf (4096 bytes, zeroed). */
void log_fill_supported(struct nvme_ctrl *ctrl, void *buf);
void log_fill_error(const struct nvme_ctrl *ctrl, void *buf);
void log_fill_smart(const struct nvme_ctrl *ctrl, const struct nvme_io_sum *io,
		    void *buf);
void log_fill_firmware(void *buf);
void log_fill_changed_ns(const struct nvme_ctrl *ctrl, void *buf);
void log_fill_effects(void *buf, bool dbbuf);

#endif
