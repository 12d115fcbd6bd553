/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What SPDK's operators call and is not here: the answer says what to use instead. Not for options that are taken and have
 * no effect: rpc_options.c.
 */
#include <string.h>

#include "internal.h"

#define KERNEL_DISK \
	"the kernel's driver makes a disk of it, and bdev_aio_create or bdev_uring_create takes that"
#define ONLY_VFIO_USER \
	"devices are exported over vfio-user only, by nvmf_subsystem_add_listener"
#define NOBODY_DISCOVERS \
	"nobody discovers over vfio-user: a virtual machine is given its socket"
#define ONE_SOCKET \
	"who may open a listener's socket may use it: see its mode, owner and group"

/* By what a name begins with; the first that fits. */
static const struct {
	const char *prefix, *instead;
} absent[] = {
	{ "accel_", "what is copied or computed here, the core does itself" },
	{ "bdev_compress_", "the layers below compress" },
	{ "bdev_crypto_",
	  "the layers below encrypt: bdev_aio_create takes a disk of dm-crypt" },
	{ "bdev_delay_update_latency",
	  "a delay device keeps the latencies it was made with" },
	{ "bdev_examine", "no module looks for its own on a device" },
	{ "bdev_iscsi_", KERNEL_DISK },
	{ "bdev_lvol_",
	  "the layers below make volumes: bdev_aio_create takes one of LVM, or a file" },
	{ "bdev_nvme_", KERNEL_DISK },
	{ "bdev_ocf_",
	  "the layers below cache: bdev_aio_create takes a disk of bcache or dm-cache" },
	{ "bdev_passthru_", "use the device itself" },
	{ "bdev_raid_",
	  "the layers below make arrays: bdev_aio_create takes one of md or LVM" },
	{ "bdev_rbd_", KERNEL_DISK },
	{ "bdev_set_qd_sampling_period",
	  "bdev_get_iostat always has the queue depth" },
	{ "bdev_split_", "bdev_aio_create takes partitions" },
	{ "bdev_virtio_", KERNEL_DISK },
	{ "bdev_xnvme_", "bdev_uring_create takes files and disks" },
	{ "env_dpdk_",
	  "memory is the process's own, without DPDK: see /proc/PID/status, and belfry_get_clients" },
	{ "framework_disable_cpumask_locks", "cores are not locked" },
	{ "framework_enable_cpumask_locks",
	  "cores are not locked: a core that has two daemons is told in the log" },
	{ "framework_get_governor", "frequencies are left to the kernel" },
	{ "framework_get_pci_devices",
	  "no PCI device is taken from the kernel" },
	{ "framework_monitor_context_switch",
	  "/proc/PID/task/TID/status counts them" },
	{ "iobuf_",
	  "data goes between the client's memory and the disk: there are no pools of buffers" },
	{ "iscsi_", ONLY_VFIO_USER },
	{ "keyring_", ONE_SOCKET },
	{ "log_enable_timestamps",
	  "each line of the log begins with the time" },
	{ "nbd_", ONLY_VFIO_USER },
	{ "nvmf_create_target", "there is one target, nvmf_tgt" },
	{ "nvmf_delete_target", "there is one target, nvmf_tgt" },
	{ "nvmf_discovery_", NOBODY_DISCOVERS },
	{ "nvmf_ns_",
	  "a namespace is for all hosts of its subsystem: use a subsystem for each" },
	{ "nvmf_publish_mdns_prr", NOBODY_DISCOVERS },
	{ "nvmf_stop_mdns_prr", NOBODY_DISCOVERS },
	{ "nvmf_subsystem_set_keys", ONE_SOCKET },
	{ "nvmf_subsystem_set_ns_ana_group", "there is no ANA reporting" },
	{ "sock_", "clients come over UNIX sockets, which have no options" },
	{ "thread_get_io_channels",
	  "bdev_get_iostat has the channels of a device, with per_channel" },
	{ "thread_set_cpumask",
	  "a reactor stays on its core: belfryd -m chooses them, and numa_id of a listener where it lives" },
	{ "trace_",
	  "bdev_enable_histogram shows latencies, log_set_flag what happens" },
	{ "ublk_", ONLY_VFIO_USER },
	{ "vhost_", ONLY_VFIO_USER },
};

static const char *
instead_of(const char *method)
{
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		if (!strncmp(method, absent[i].prefix,
			     strlen(absent[i].prefix)))
			return absent[i].instead;
	return NULL;
}

void
rpc_absent_register(void)
{
	rpc_set_advice(instead_of);
}
