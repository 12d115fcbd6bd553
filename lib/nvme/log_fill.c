/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is in the log pages (NVMe 2.0 §5.16.1). Not for the command and its
 * bounds: log_page.c.
 */
#include "admin.h"

#define NS_PER_MINUTE (60ull * 1000 * 1000 * 1000)

/* Newest first; unused ones are zero, which their count says. */
void
log_fill_error(const struct nvme_ctrl *ctrl, void *buf)
{
	struct nvme_error_log_page *out = buf;

	for (unsigned i = 0; i < NVME_ERRLOG_ENTRIES; i++) {
		uint64_t n = ctrl->error_count - i;

		if (i >= ctrl->error_count)
			break;
		out[i] = ctrl->errlog[(n - 1) % NVME_ERRLOG_ENTRIES];
		if (!out[i].error_count)
			break;
	}
}

static void
put_u128(uint8_t field[16], uint64_t v)
{
	memcpy(field, &v, sizeof(v));
}

/* Thousands of 512 bytes, rounded up (SMART: Data Units Read). */
static uint64_t
data_units(uint64_t units)
{
	return units / 1000 + (units % 1000 != 0);
}

/* @nsid: of one namespace, or (0, FFFFFFFFh) of all, gone ones too. */
static void
fill_io(const struct nvme_ctrl *ctrl, uint32_t nsid, struct nvme_smart_log *log)
{
	bool all = !nsid || nsid == NVME_NSID_BROADCAST;
	uint64_t reads = all ? ctrl->past_read_cmds : 0;
	uint64_t writes = all ? ctrl->past_write_cmds : 0;
	uint64_t read_units = all ? ctrl->past_read_units : 0;
	uint64_t write_units = all ? ctrl->past_write_units : 0;

	for (unsigned i = 0; i < NVME_MAX_NS; i++) {
		const struct nvme_nsref *ns = ctrl->group.ns[i];

		if (!ns || (!all && ns->nsid != nsid))
			continue;
		reads += ns->read_cmds;
		writes += ns->write_cmds;
		read_units += ns->read_units;
		write_units += ns->write_units;
	}
	put_u128(log->data_units_read, data_units(read_units));
	put_u128(log->data_units_written, data_units(write_units));
	put_u128(log->host_reads, reads);
	put_u128(log->host_writes, writes);
}

void
log_fill_smart(const struct nvme_ctrl *ctrl, uint32_t nsid, void *buf)
{
	struct nvme_smart_log *log = buf;
	uint64_t on = reactor_now() - ctrl->power_on_ns;

	log->critical_warning = ctrl->critical_warning;
	log->temperature[0] = (uint8_t)TEMPERATURE;
	log->temperature[1] = (uint8_t)(TEMPERATURE >> 8);
	log->avail_spare = 100;
	log->spare_thresh = 10;
	fill_io(ctrl, nsid, log);
	put_u128(log->ctrl_busy_time, ctrl->ctrl_busy_ns / NS_PER_MINUTE);
	put_u128(log->power_cycles, ctrl->power_cycles);
	put_u128(log->power_on_hours, on / (60 * NS_PER_MINUTE));
	put_u128(log->unsafe_shutdowns, ctrl->unsafe_shutdowns);
	put_u128(log->media_errors, ctrl->media_errors);
	put_u128(log->num_err_log_entries, ctrl->error_count);
	for (unsigned i = 0; i < TEMP_SENSORS; i++)
		log->temp_sensor[i] = TEMPERATURE;
}

void
log_fill_firmware(void *buf)
{
	struct nvme_firmware_slot *log = buf;

	log->afi = 1; /* slot 1 runs, no other comes next */
	util_pad_ascii(log->frs[0], sizeof(log->frs[0]), BELFRY_VERSION);
}

void
log_fill_changed_ns(const struct nvme_ctrl *ctrl, void *buf)
{
	struct nvme_ns_list *log = buf;

	if (ctrl->changed_ns_n > ARRAY_SIZE(ctrl->changed_ns)) {
		log->ns[0] = NVME_NSID_BROADCAST; /* more than fit */
		return;
	}
	memcpy(log->ns, ctrl->changed_ns,
	       ctrl->changed_ns_n * sizeof(log->ns[0]));
}

void
log_fill_effects(void *buf, bool dbbuf)
{
	struct nvme_cmd_effects_log *log = buf;

	/* With the scope of each, as LPA bit 5 says. */
	admin_effects(log->acs);
	if (!dbbuf)
		log->acs[nvme_admin_dbbuf] = 0;
	io_effects(log->iocs);
	for (unsigned i = 0; i < ARRAY_SIZE(log->iocs); i++)
		if (log->iocs[i])
			log->iocs[i] |= SCOPE_NS;
}
