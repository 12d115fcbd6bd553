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

void
log_fill_smart(const struct nvme_ctrl *ctrl, const struct nvme_io_sum *io,
	       void *buf)
{
	struct nvme_smart_log *log = buf;
	uint64_t on = reactor_now() - ctrl->power_on_ns;

	log->critical_warning = ctrl->critical_warning;
	log->temperature[0] = (uint8_t)TEMPERATURE;
	log->temperature[1] = (uint8_t)(TEMPERATURE >> 8);
	log->avail_spare = 100;
	log->spare_thresh = 10;
	put_u128(log->data_units_read, data_units(io->read_units));
	put_u128(log->data_units_written, data_units(io->write_units));
	put_u128(log->host_reads, io->read_cmds);
	put_u128(log->host_writes, io->write_cmds);
	put_u128(log->ctrl_busy_time, io->busy_ns / NS_PER_MINUTE);
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
		log->ns[0] = NVME_NSID_ALL; /* more than fit */
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
